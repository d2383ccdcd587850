package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// received is how many bytes the speaker of a node has read from the API server, over the connections that it has now.
func (s *segment) received(ctx context.Context, node string) (float64, error) {
	p, err := s.speakerOn(node)
	if err != nil {
		return 0, err
	}
	out, err := s.Lab.CommandContext(ctx, node, "ss", "-tinpH", "state", "established", "dport", "=", ":6443").Output()
	if err != nil {
		return 0, fmt.Errorf("list the connections of %s: %w", node, err)
	}
	total, ours := 0.0, false
	count := regexp.MustCompile(`bytes_received:(\d+)`)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); { // a connection is two lines: who, and how it stands
		if strings.Contains(lines.Text(), "users:") {
			ours = strings.Contains(lines.Text(), fmt.Sprintf("pid=%d,", p.PID))
		}
		if m := count.FindStringSubmatch(lines.Text()); m != nil && ours {
			n, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	return total, nil
}

// read is how many bytes each speaker reads from the API server while something is done, for each of so many Services.
func (s *segment) read(ctx context.Context, what string, services int, do func() error) error {
	before := map[string]float64{}
	for _, node := range s.Lab.Nodes() {
		n, err := s.received(ctx, node.Name)
		if err != nil {
			return err
		}
		before[node.Name] = n
	}
	if err := do(); err != nil {
		return err
	}
	row := figure{what: what, unit: "KB"}
	for _, node := range s.Lab.Nodes() {
		n, err := s.received(ctx, node.Name)
		if err != nil {
			return err
		}
		row.values = append(row.values, (n-before[node.Name])/float64(services)/1000)
	}
	s.table = append(s.table, row)
	return nil
}
