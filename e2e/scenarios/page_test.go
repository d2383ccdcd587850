package scenarios

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// outside makes what listens on loopback of a place reachable from the machine itself, on its loopback.
func (s *scene) outside(where, address string) string {
	s.Helper()
	listener, err := (&net.ListenConfig{}).Listen(s.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = from.Close() }()
				to, err := s.Lab.Dial(s.ctx, where, "tcp", address)
				if err != nil {
					return
				}
				defer func() { _ = to.Close() }()
				go func() { _, _ = io.Copy(to, from) }()
				_, _ = io.Copy(from, to)
			}()
		}
	}()
	return listener.Addr().String()
}

// browser is a real one without a window, and what it complains of.
type browser struct {
	*served
	ctx        context.Context
	mu         sync.Mutex
	complaints []string
}

func (s *served) browser() *browser {
	s.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.ExecPath("chromium"), chromedp.WindowSize(1280, 900),
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) { cmd.SysProcAttr = nil })) // or it dies with the thread that started it, and threads that were in the lab end
	ctx, stop := chromedp.NewExecAllocator(s.ctx, options...)
	s.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	s.Cleanup(stop)
	b := &browser{served: s, ctx: ctx}
	chromedp.ListenTarget(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			b.complaints = append(b.complaints, e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			b.complaints = append(b.complaints, e.Type.String())
		}
	})
	if err := chromedp.Run(ctx); err != nil { // the browser lives as long as the context of its first run
		s.Fatal("start a browser:", err)
	}
	return b
}

func (b *browser) run(actions ...chromedp.Action) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.Fatal("in the browser:", err)
	}
}

// shows waits until an element has a text.
func (b *browser) shows(selector, text string) {
	b.Helper()
	b.eventually(patience, fmt.Sprintf("%s shows %q", selector, text), func() bool {
		var has string
		b.run(chromedp.Evaluate(fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector), &has))
		return strings.Contains(has, text)
	})
}

// picture keeps a screenshot in out/screenshots.
func (b *browser) picture(name string) {
	b.Helper()
	var image []byte
	b.run(chromedp.FullScreenshot(&image, 100))
	folder := filepath.Join(b.Repo, "out", "screenshots")
	b.act(os.MkdirAll(folder, 0o755))
	b.act(os.WriteFile(filepath.Join(folder, name+".png"), image, 0o644))
}

// TestTheStatusPage in a real browser: on a desk, in the dark and on a phone; what happens in the cluster shows without a reload.
func TestTheStatusPage(t *testing.T) {
	s := onServed(t)
	if _, err := s.Kubectl(s.ctx, "apply", "-f", filepath.Join(s.Repo, "config", "statuspage", "rbac.yaml")); err != nil {
		t.Fatal(err)
	}
	s.with("--status-listen=127.0.0.1:7482", map[string][]string{lab.Control: {controllers()[0]}})
	at := s.outside(lab.Control, "127.0.0.1:7482")
	b := s.browser()
	b.eventually(patience, "the page is served", func() bool {
		c, err := s.Lab.Dial(s.ctx, lab.Control, "tcp", "127.0.0.1:7482")
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	b.run(chromedp.Navigate("http://" + at + "/"))
	b.shows("#live", "live")
	b.shows("#controller", "leads")
	b.shows("#pools", "1 of 21")
	b.shows("#troubles", "Nothing is wrong")
	for _, n := range s.Lab.Nodes() {
		b.shows("#nodes", n.Name)
	}
	b.picture("desk")
	var paper string
	const background = "getComputedStyle(document.body).backgroundColor"
	b.run(chromedp.Evaluate(background, &paper))
	if paper != "rgb(255, 255, 255)" {
		t.Errorf("by day the page is on %s", paper)
	}
	b.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}), chromedp.Evaluate(background, &paper))
	if paper != "rgb(13, 17, 23)" {
		t.Errorf("in the dark the page is on %s", paper)
	}
	b.picture("dark")

	back := s.patch("pool/lan", `{"spec":{"advertise":null}}`, `{"spec":{"advertise":["L2"]}}`)
	b.shows("#troubles", "no advertisement selects")
	b.run(chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2)), chromedp.Click("#troubles button.link", chromedp.ByQuery))
	b.shows("#explanation", "Advertisement: no advertisement selects")
	var wide bool
	b.run(chromedp.Evaluate("document.documentElement.scrollWidth > innerWidth", &wide))
	if wide {
		t.Error("on a phone the page is wider than the screen")
	}
	b.picture("phone")
	back()
	b.shows("#troubles", "Nothing is wrong")

	owner, err := s.Owner(s.ctx, s.addr)
	s.act(err)
	s.must("annotate", "node", owner, "bellwether.dev/drain=true")
	t.Cleanup(func() {
		_, _ = s.Kubectl(context.WithoutCancel(s.ctx), "annotate", "node", owner, "bellwether.dev/drain-")
	})
	b.shows("#timeline", owner)
	b.shows("#timeline", s.addr.String())

	var elsewhere int
	b.run(chromedp.Evaluate("performance.getEntriesByType('resource').filter(r => !r.name.startsWith(location.origin)).length", &elsewhere))
	if elsewhere > 0 {
		t.Errorf("%d things were fetched from elsewhere", elsewhere)
	}
	time.Sleep(100 * time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		t.Errorf("the browser complains: %q", b.complaints)
	}
}
