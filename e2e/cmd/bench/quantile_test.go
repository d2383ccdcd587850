package main

import "testing"

func TestTheNinetyNinthPercentileIsTheNearestRank(t *testing.T) {
	for n, want := range map[int]float64{1: 1, 2: 2, 20: 20, 100: 99, 101: 100, 1000: 990} {
		f := figure{}
		for i := range n {
			f.values = append(f.values, float64(n-i))
		}
		if got := f.summary().p99; got != want {
			t.Errorf("of 1 to %d it is %v, want %v", n, got, want)
		}
	}
}
