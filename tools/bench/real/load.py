"""CPython under load: JSON, regular expressions, sorting, threads that sleep and hand over work."""

import json
import queue
import random
import re
import threading
import time


def records(count: int) -> list[dict[str, object]]:
    """Something to write and sort."""
    random.seed(1)
    words = ["where", "does", "the", "time", "go"]
    return [
        {"id": i, "text": " ".join(random.choices(words, k=20)), "value": random.random()}
        for i in range(count)
    ]


def work(rows: list[dict[str, object]]) -> int:
    """A round of it."""
    text = json.dumps(rows)
    again = json.loads(text)
    again.sort(key=lambda row: row["value"])
    return len(re.findall(r"(\w+) time (\w+)", text)) + len(again)


def serve(jobs: "queue.Queue[int]") -> None:
    """A thread that waits for jobs."""
    while True:
        time.sleep(jobs.get() / 1000)


def main() -> None:
    """Until it is killed."""
    rows = records(500)
    jobs: queue.Queue[int] = queue.Queue()
    for _ in range(3):
        threading.Thread(target=serve, args=(jobs,), daemon=True).start()
    while True:
        work(rows)
        jobs.put(2)
        time.sleep(0.002)


if __name__ == "__main__":
    main()
