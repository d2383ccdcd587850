package scenarios

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// TestSecretsAreNowhereButInSecrets plants passwords and looks for them, and for the gossip key, in all that the programs say: logs at
// their most talkative, metrics, dumps, objects, events, and what the command line tool prints.
func TestSecretsAreNowhereButInSecrets(t *testing.T) {
	const first, second = "planted-swordfish-41", "planted-herring-42"
	s := onSegment(t)
	node := s.Lab.Nodes()[0].Name
	p := s.speaker(node)
	quiet := p.Spec
	again := func(args []string) {
		now := s.speaker(node)
		s.act(now.Stop(20 * time.Second))
		now.Spec.Args = args
		s.act(s.Lab.Restart(now))
	}
	again(append(slices.Clone(quiet.Args), "--log-level=debug"))
	t.Cleanup(func() { again(quiet.Args) })
	s.password(first)
	frr, router := s.one(kind{asn: 65001, remote: "64512", neighbor: "neighbor NODE password " + first, peer: "myASN: 64512, peerASN: 65001, passwordSecret: {name: router-password}"})
	up := func() bool {
		session, err := frr.Session(s.ctx, router)
		return err == nil && session.Established
	}
	s.eventually(patience, "the session is up", up)
	s.password(second) // which the router does not know: the session cannot come back
	s.eventually(patience, "the session is down", func() bool { return !up() })
	s.poolOf("routed", "advertise: [BGP, L2], "+routedAddresses)
	s.becomes(s.create("web"), 1, "Allocated")
	time.Sleep(5 * time.Second) // it tries again meanwhile

	key, err := base64.StdEncoding.DecodeString(s.must("-n", product.Namespace, "get", "secret", "bellwether-gossip", "-o", "jsonpath={.data.secret}"))
	s.act(err)
	secrets := s.must("-n", product.Namespace, "get", "secrets", "-o", "yaml")
	if len(found(secrets, []byte(second))) == 0 || len(found(secrets, key)) == 0 {
		t.Fatal("what looks for secrets does not find them where they are")
	}
	for where, text := range s.said() {
		for name, secret := range map[string][]byte{"the first password": []byte(first), "the second password": []byte(second), "the gossip key": key} {
			for _, form := range found(text, secret) {
				t.Errorf("%s is in %s, %s", name, where, form)
			}
		}
	}
}

// found are the ways in which a text has a secret in it.
func found(text string, secret []byte) (forms []string) {
	for form, written := range map[string]string{
		"as it is": string(secret), "quoted": strings.Trim(fmt.Sprintf("%q", secret), `"`), "in base64": strings.TrimRight(base64.StdEncoding.EncodeToString(secret), "="),
		"in hexadecimal": hex.EncodeToString(secret), "as numbers": strings.Trim(fmt.Sprintf("%d", secret), "[]"),
	} {
		if strings.Contains(text, written) {
			forms = append(forms, form)
		}
	}
	return forms
}

// said is all that the programs say, by where.
func (s *ledgered) said() map[string]string {
	s.Helper()
	all := map[string]string{}
	logs := s.TempDir()
	s.act(s.Lab.CopyLogs(logs))
	for _, pattern := range []string{"*/speaker.log", "*/controller-*.log"} {
		files, err := filepath.Glob(filepath.Join(logs, pattern))
		s.act(err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			s.act(err)
			all["the log "+strings.TrimPrefix(file, logs)] = string(text)
		}
	}
	curl := func(where, url string) {
		out, err := s.Lab.CommandContext(s.ctx, where, "curl", "-sf", url).Output()
		if err != nil || len(out) == 0 {
			s.Errorf("%s of %s cannot be read: %v", url, where, err)
		}
		all[url+" of "+where] = string(out)
	}
	for _, n := range s.Lab.Nodes() {
		curl(n.Name, "http://127.0.0.1:7480/metrics")
		for _, dump := range []string{"view", "plan", "have", "pprof/goroutine?debug=2"} {
			curl(n.Name, "http://127.0.0.1:7481/debug/"+dump)
		}
	}
	for i := range controllers() {
		curl(lab.Control, fmt.Sprintf("http://127.0.0.1:%d/metrics", 7490+10*i))
	}
	all["the objects"] = s.must("get", "ipaddresspools,l2advertisements,bgppeers,bgpadvertisements,bfdprofiles,communities,speakers,services,events,nodes,leases,configmaps", "-A", "-o", "yaml")
	for _, args := range [][]string{{"explain", "service/web"}, {"status"}, {"status", "-o", "yaml"}, {"services"}, {"doctor"}} {
		out, _, err := s.CLI(s.ctx, "", args...)
		s.act(err)
		all["bellwether "+strings.Join(args, " ")] = out
	}
	return all
}
