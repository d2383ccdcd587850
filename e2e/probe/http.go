package probe

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Outcome is what came of one HTTP request.
type Outcome struct {
	Start, End time.Time
	Err        string // empty: a 2xx answer came within the time
	Answer     string // first line of the body
}

// OK reports whether an answer came.
func (o Outcome) OK() bool { return o.Err == "" }

// HTTP asks a URL at a fixed pace, each time on a new connection, whether or
// not earlier requests have been answered: a stuck one hides nothing.
type HTTP struct {
	client   *http.Client
	url      string
	interval time.Duration

	mu       sync.Mutex
	outcomes []Outcome
}

// NewHTTP prepares requests to a URL. The client decides from where they are
// made and how long one may take: use lab.HTTPClient.
func NewHTTP(client *http.Client, url string, interval time.Duration) *HTTP {
	return &HTTP{client: client, url: url, interval: interval}
}

// Run asks until ctx ends. Requests that are under way then are not counted.
func (h *HTTP) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(h.interval)
	defer tick.Stop()
	for {
		wg.Go(func() {
			o := h.ask(ctx)
			if ctx.Err() != nil {
				return
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.outcomes = append(h.outcomes, o)
		})
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ask makes one request.
func (h *HTTP) ask(ctx context.Context) Outcome {
	o := Outcome{Start: time.Now()}
	body, err := h.get(ctx)
	o.End = time.Now()
	if err != nil {
		o.Err = err.Error()
		return o
	}
	o.Answer, _, _ = strings.Cut(body, "\n")
	return o
}

func (h *HTTP) get(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", err
	}
	if resp.StatusCode/100 != 2 {
		return "", fmt.Errorf("status %s", resp.Status)
	}
	return string(body), nil
}

// Outcomes are the requests that ended so far, by the time they were made.
func (h *HTTP) Outcomes() []Outcome {
	h.mu.Lock()
	out := slices.Clone(h.outcomes)
	h.mu.Unlock()
	slices.SortFunc(out, func(a, b Outcome) int { return a.Start.Compare(b.Start) })
	return out
}

// Outage is the longest stretch in which requests failed: from the last one
// that worked, by when it was made, to the next one that did. It is zero when
// none failed, and open-ended stretches end with the last request.
func Outage(outcomes []Outcome) Gap {
	var longest Gap
	if len(outcomes) == 0 {
		return longest
	}
	lastGood, failing := outcomes[0].Start, false
	for i, o := range outcomes {
		if !o.OK() {
			failing = true
		}
		if failing && (o.OK() || i == len(outcomes)-1) {
			if g := (Gap{lastGood, o.Start}); g.Length() > longest.Length() {
				longest = g
			}
		}
		if o.OK() {
			lastGood, failing = o.Start, false
		}
	}
	return longest
}
