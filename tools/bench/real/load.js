// node under load: JSON, sorting, regular expressions, its thread pool, timers.
"use strict";
const crypto = require("crypto");
const fs = require("fs");

const rows = Array.from({ length: 2000 }, (_, i) => ({ id: i, text: `row ${(i * 7919) % 2003}` }));

function work() {
  const again = JSON.parse(JSON.stringify(rows));
  again.sort((a, b) => (a.text < b.text ? -1 : 1));
  return again.filter((row) => /row \d*7\d*/.test(row.text)).length;
}

function round() {
  for (let i = 0; i < 5; i++) work();
  crypto.pbkdf2("secret", "salt", 2000, 64, "sha512", () => {});
  fs.readFile(__filename, () => {});
  setTimeout(round, 3);
}

round();
