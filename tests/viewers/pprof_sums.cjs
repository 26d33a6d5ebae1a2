// node pprof_sums.cjs PPROF_FORMAT_DIR FILE: what pprof-format reads of a file, as JSON: the sum of
// each sample type for every pair of thread and state, and each sample's functions, leaf first.
"use strict";
const fs = require("fs");
const zlib = require("zlib");
const [directory, file] = process.argv.slice(2);
const { Profile } = require(directory);

const profile = Profile.decode(zlib.gunzipSync(fs.readFileSync(file)));
const text = (index) => profile.stringTable.strings[Number(index)];
const types = profile.sampleType.map((type) => `${text(type.type)}/${text(type.unit)}`);
const functions = new Map(profile.function.map((one) => [String(one.id), text(one.name)]));
const locations = new Map(
  profile.location.map((one) => [
    String(one.id),
    one.line.map((line) => functions.get(String(line.functionId))),
  ]),
);
const sums = {};
const stacks = [];
for (const sample of profile.sample) {
  const labels = {};
  for (const label of sample.label) {
    labels[text(label.key)] = Number(label.str) ? text(label.str) : Number(label.num);
  }
  const row = (sums[`${labels.tid} ${labels.state}`] ||= types.map(() => 0n));
  sample.value.forEach((value, index) => (row[index] += BigInt(value)));
  stacks.push(sample.locationId.flatMap((id) => locations.get(String(id))));
}
const exact = (key, value) => (typeof value === "bigint" ? value.toString() : value);
const wanted = { types, sums, stacks, comments: profile.comment.map(text) };
process.stdout.write(JSON.stringify(wanted, exact));
