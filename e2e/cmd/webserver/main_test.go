package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestAnswersOnBothFamiliesUntilStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"--listen", "127.0.0.1:0,[::1]:0", "--name", "web-1", "--node", "node-1"}, w)
	}()
	lines := bufio.NewReader(r)
	for range 2 {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		addr := strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
		body := get(t, "http://"+addr+"/")
		host := addr[:strings.LastIndex(addr, ":")]
		for _, want := range []string{"name: web-1\n", "node: node-1\n", "client: " + host + ":", "server: " + addr + "\n"} {
			if !strings.Contains(body, want) {
				t.Errorf("answer from %s lacks %q:\n%s", addr, want, body)
			}
		}
		if got := get(t, "http://"+addr+"/healthz"); got != "ok\n" {
			t.Errorf("healthz said %q", got)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("stopped with: %v", err)
	}
}

func TestAnAddressThatCannotBeHadIsAnError(t *testing.T) {
	err := run(t.Context(), []string{"--listen", "127.0.0.1:0,nowhere"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "listening on nowhere") {
		t.Errorf("got %v", err)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
