// A Go program under load: goroutines that burn, sleep and hand over work.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"
)

type row struct {
	ID   int
	Text string
}

func work(rows []row) int {
	text, err := json.Marshal(rows)
	if err != nil {
		os.Exit(1)
	}
	var again []row
	if json.Unmarshal(text, &again) != nil {
		os.Exit(1)
	}
	sort.Slice(again, func(i, j int) bool { return again[i].Text < again[j].Text })
	sum := sha256.Sum256(text)
	return int(sum[0]) + len(again)
}

func serve(jobs chan int) {
	for n := range jobs {
		time.Sleep(time.Duration(n) * time.Millisecond)
	}
}

func main() {
	rows := make([]row, 500)
	for i := range rows {
		rows[i] = row{i, fmt.Sprintf("row %d", i*7919%503)}
	}
	jobs := make(chan int)
	for i := 0; i < 3; i++ {
		go serve(jobs)
	}
	for {
		work(rows)
		jobs <- 2
		time.Sleep(2 * time.Millisecond)
	}
}
