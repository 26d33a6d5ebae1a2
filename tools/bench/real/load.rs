// A Rust program under load: sorting, hashing, threads that sleep and hand over work.
use std::collections::HashMap;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

#[inline(never)]
fn work(rows: &[String]) -> usize {
    let mut again: Vec<String> = rows.iter().map(|row| format!("{row} again")).collect();
    again.sort_by(|a, b| b.cmp(a));
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for row in &again {
        *counts.entry(&row[..row.len() / 2]).or_default() += 1;
    }
    counts.len()
}

fn main() {
    let rows: Vec<String> = (0..2000).map(|i| format!("row {}", i * 7919 % 2003)).collect();
    let (jobs, queue) = channel::<u64>();
    thread::spawn(move || {
        for wait in queue {
            thread::sleep(Duration::from_millis(wait));
        }
    });
    let mut total = 0;
    loop {
        total += work(&rows);
        if jobs.send(2).is_err() {
            std::process::exit(total as i32);
        }
        thread::sleep(Duration::from_millis(2));
    }
}
