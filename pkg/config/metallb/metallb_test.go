package metallb

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/bellwether-lb/bellwether/pkg/config"
)

// convert reads YAML documents.
func convert(t *testing.T, text string) Result {
	t.Helper()
	var objects []json.RawMessage
	for document := range strings.SplitSeq(text, "\n---\n") {
		raw, err := yaml.YAMLToJSON([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, raw)
	}
	return Convert(objects, yaml.YAMLToJSON)
}

func notes(r Result) (all []string) {
	for _, n := range r.Notes {
		all = append(all, n.String())
	}
	return all
}

// tree is a value as JSON has it, without the fields that are empty.
func tree(t *testing.T, of any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func spec(t *testing.T, text string) map[string]any {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Every field of every kind, as MetalLB has it.
const (
	everyPool = `
addresses: [192.0.2.0/28, "2001:db8::10-2001:db8::1f"]
autoAssign: false
avoidBuggyIPs: true
serviceAllocation: {priority: 20, namespaces: [shop], namespaceSelectors: [{matchLabels: {team: a}}], serviceSelectors: [{matchExpressions: [{key: app, operator: Exists}]}]}
`
	everySelection = `
ipAddressPools: [web]
ipAddressPoolSelectors: [{matchLabels: {tier: front}}]
serviceSelectors: [{matchLabels: {app: shop}}]
nodeSelectors: [{matchLabels: {rack: one}}]
`
	everyL2Advertisement  = everySelection + "preferredNodeSelectors: [{weight: 5, preference: {matchLabels: {fast: 'true'}}}]\ninterfaces: [eth1]\n"
	everyBGPAdvertisement = everySelection + "peers: [tor]\naggregationLength: 28\naggregationLengthV6: 120\nlocalPref: 150\ncommunities: [64512:10, quiet]\n"
	everyBFDProfile       = "receiveInterval: 100\ntransmitInterval: 110\ndetectMultiplier: 4\nechoInterval: 60\nechoMode: true\npassiveMode: true\nminimumTtl: 250\n"
	everyCommunity        = "communities: [{name: quiet, value: '64512:99'}, {name: big, value: 'large:64512:1:2'}]\n"
	everyPeer             = `
myASN: 64512
peerASN: 64513
localASN: 64999
peerAddress: 198.51.100.1
peerPort: 1790
sourceAddress: 198.51.100.2
holdTime: 1m30s
keepaliveTime: 30s
connectTime: 5s
routerID: 198.51.100.3
nodeSelectors: [{matchExpressions: [{key: rack, operator: In, values: [one, two]}]}]
bfdProfile: fast
ebgpMultiHop: true
vrf: red
dualStackAddressFamily: true
`
)

func objectOf(kind, version, name, spec string) string {
	indented := strings.ReplaceAll(strings.TrimSpace(spec), "\n", "\n  ")
	return "apiVersion: metallb.io/" + version + "\nkind: " + kind + "\nmetadata: {name: " + name + ", namespace: metallb-system, labels: {tier: front}}\nspec:\n  " + indented
}

func TestEveryFieldIsTakenOver(t *testing.T) {
	r := convert(t, strings.Join([]string{
		objectOf("IPAddressPool", "v1beta1", "web", everyPool),
		objectOf("L2Advertisement", "v1beta1", "l2", everyL2Advertisement),
		objectOf("BGPAdvertisement", "v1beta1", "bgp", everyBGPAdvertisement),
		objectOf("BGPPeer", "v1beta2", "tor", everyPeer),
		objectOf("BFDProfile", "v1beta1", "fast", everyBFDProfile),
		objectOf("Community", "v1beta1", "names", everyCommunity),
	}, "\n---\n"))
	if got := notes(r); len(got) > 0 {
		t.Errorf("notes: %q", got)
	}
	if len(r.Pools) != 1 || len(r.L2Advertisements) != 1 || len(r.BGPAdvertisements) != 1 || len(r.BGPPeers) != 1 || len(r.BFDProfiles) != 1 || len(r.Communities) != 1 {
		t.Fatalf("not one of each: %+v", r)
	}
	for _, c := range []struct {
		want string
		got  any
	}{
		{everyPool, r.Pools[0].Spec},
		{everyL2Advertisement, r.L2Advertisements[0].Spec},
		{everyBGPAdvertisement, r.BGPAdvertisements[0].Spec},
		{everyPeer, r.BGPPeers[0].Spec},
		{everyBFDProfile, r.BFDProfiles[0].Spec},
		{everyCommunity, r.Communities[0].Spec},
	} {
		want, got := spec(t, c.want), tree(t, c.got)
		for field := range want {
			if diff := cmp.Diff(want[field], got[field]); diff != "" {
				t.Errorf("%s (-MetalLB's +Bellwether's):\n%s", field, diff)
			}
		}
	}
	if r.Pools[0].Name != "web" || r.Pools[0].Namespace != "" || r.Pools[0].Labels["tier"] != "front" {
		t.Errorf("the pool is %+v", r.Pools[0].ObjectMeta)
	}
}

func TestWhatIsSaidOfAConversion(t *testing.T) {
	peer := "myASN: 64512\npeerASN: 64513\npeerAddress: 198.51.100.1\n"
	for _, c := range []struct {
		name, input string
		want        []string
	}{
		{"a password", objectOf("BGPPeer", "v1beta1", "tor", peer+"password: swordfish"), []string{"BGPPeer tor: password: it is in the Secret bgp-tor now"}},
		{"a Secret", objectOf("BGPPeer", "v1beta2", "tor", peer+"passwordSecret: {name: s}"),
			[]string{"BGPPeer tor: passwordSecret: copy the Secret s of namespace metallb-system to Bellwether's namespace"}},
		{"both", objectOf("BGPPeer", "v1beta2", "tor", peer+"password: swordfish\npasswordSecret: {name: s, namespace: other}"),
			[]string{"BGPPeer tor: passwordSecret: copy the Secret s of namespace other to Bellwether's namespace",
				"BGPPeer tor: password (not taken over): there is a passwordSecret as well: leave out one of them"}},
		{"graceful restart", objectOf("BGPPeer", "v1beta2", "tor", peer+"enableGracefulRestart: true"),
			[]string{"BGPPeer tor: enableGracefulRestart: routers keep routes for 30 s, not 120 s: set gracefulRestart.restartTime for another time"}},
		{"no time between keepalives", objectOf("BGPPeer", "v1beta2", "tor", peer+"keepaliveTime: 0s"), []string{"BGPPeer tor: keepaliveTime: 0s stands for the default, a third of holdTime"}},
		{"disableMP", objectOf("BGPPeer", "v1beta2", "tor", peer+"disableMP: true"),
			[]string{"BGPPeer tor: disableMP: a session announces the family of its addresses alone unless dualStackAddressFamily is true, as disableMP asks for"}},
		{"fields that are not known", objectOf("IPAddressPool", "v1beta1", "p", "addresses: [192.0.2.0/28]\nnew: 1\nserviceAllocation: {newer: 2}"),
			[]string{"IPAddressPool p: new (not taken over): this field is not known", "IPAddressPool p: serviceAllocation.newer (not taken over): this field is not known"}},
		{"a type that is wrong", objectOf("IPAddressPool", "v1beta1", "p", "addresses: 7"),
			[]string{"IPAddressPool p (not taken over): it cannot be read: json: cannot unmarshal number into Go struct field poolSpec.addresses of type []v1beta1.AddressRange"}},
		{"two namespaces", objectOf("Community", "v1beta1", "c", "communities: []") + "\n---\n" + strings.ReplaceAll(objectOf("Community", "v1beta1", "c", "communities: []"), "metallb-system", "other"),
			[]string{"Community c (not taken over): there is another one of that name, in namespace metallb-system: objects of Bellwether are in no namespace; rename one of them"}},
		{"an old kind", objectOf("AddressPool", "v1beta1", "p", "protocol: layer2"),
			[]string{"AddressPool p (not taken over): AddressPool of metallb.io/v1beta1 is not known: convert it to a version of today with MetalLB first"}},
		{"its status", objectOf("ServiceL2Status", "v1beta1", "p", "{}"),
			[]string{"ServiceL2Status p: it is MetalLB's status, and passed over: Bellwether says the same in Services' conditions and Speaker objects"}},
		{"something else", "apiVersion: v1\nkind: Namespace\nmetadata: {name: metallb-system}", []string{"Namespace metallb-system: it is no configuration of MetalLB, and passed over"}},
		{"no object", "- 1", []string{"an object (not taken over): it cannot be read: json: cannot unmarshal array into Go value of type metallb.object"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, notes(convert(t, c.input))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAPasswordLeavesTheBGPPeer(t *testing.T) {
	r := convert(t, objectOf("BGPPeer", "v1beta1", "tor", "myASN: 64512\npeerASN: 64513\npeerAddress: 198.51.100.1\npassword: swordfish"))
	if ref := r.BGPPeers[0].Spec.PasswordSecret; ref == nil || ref.Name != "bgp-tor" {
		t.Errorf("the BGPPeer names %+v", ref)
	}
	secret := tree(t, r.Manifests("bellwether-system")[0])
	want := map[string]any{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth", "stringData": map[string]any{"password": "swordfish"}}
	for field := range want {
		if diff := cmp.Diff(want[field], secret[field]); diff != "" {
			t.Error(diff)
		}
	}
}

const oldConfig = `apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: metallb-system}
data:
  config: |
    peers:
    - peer-address: 198.51.100.1
      peer-asn: 64513
      my-asn: 64512
      peer-port: 1790
      hold-time: 90s
      keepalive-time: 30s
      router-id: 198.51.100.3
      source-address: 198.51.100.2
      password: swordfish
      bfd-profile: fast
      ebgp-multihop: true
      node-selectors:
      - match-labels: {rack: one}
        match-expressions: [{key: fast, operator: In, values: ["true"]}]
    bgp-communities: {quiet: 64512:99}
    bfd-profiles: [{name: fast, receive-interval: 100, transmit-interval: 110, detect-multiplier: 4, echo-mode: true, echo-interval: 60, passive-mode: true, minimum-ttl: 250}]
    address-pools:
    - {name: lan, protocol: layer2, addresses: [192.0.2.0/28], auto-assign: false, avoid-buggy-ips: true}
    - {name: routed, protocol: bgp, addresses: [203.0.113.0/24]}
    - name: twice
      protocol: bgp
      addresses: [203.0.114.0/24]
      bgp-advertisements:
      - {aggregation-length: 24, aggregation-length-v6: 64, localpref: 100, communities: [quiet]}
      - {aggregation-length: 32}
`

func TestTheConfigMapOfOld(t *testing.T) {
	r := convert(t, oldConfig)
	if diff := cmp.Diff([]string{"ConfigMap config: password: it is in the Secret bgp-peer1 now"}, notes(r)); diff != "" {
		t.Error(diff)
	}
	var got []string
	for _, o := range r.Manifests("bellwether-system") {
		raw, err := json.Marshal(struct {
			Kind any `json:"kind"`
			Name any `json:"name"`
			Spec any `json:"spec,omitempty"`
		}{tree(t, o)["kind"], tree(t, o)["metadata"].(map[string]any)["name"], tree(t, o)["spec"]})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(raw))
	}
	want := []string{
		`{"kind":"Secret","name":"bgp-peer1"}`,
		`{"kind":"Community","name":"communities","spec":{"communities":[{"name":"quiet","value":"64512:99"}]}}`,
		`{"kind":"BFDProfile","name":"fast","spec":{"detectMultiplier":4,"echoInterval":60,"echoMode":true,"minimumTtl":250,"passiveMode":true,"receiveInterval":100,"transmitInterval":110}}`,
		`{"kind":"IPAddressPool","name":"lan","spec":{"addresses":["192.0.2.0/28"],"autoAssign":false,"avoidBuggyIPs":true}}`,
		`{"kind":"IPAddressPool","name":"routed","spec":{"addresses":["203.0.113.0/24"]}}`,
		`{"kind":"IPAddressPool","name":"twice","spec":{"addresses":["203.0.114.0/24"]}}`,
		`{"kind":"BGPPeer","name":"peer1","spec":{"bfdProfile":"fast","ebgpMultiHop":true,"holdTime":"90s","keepaliveTime":"30s","myASN":64512,` +
			`"nodeSelectors":[{"matchExpressions":[{"key":"fast","operator":"In","values":["true"]}],"matchLabels":{"rack":"one"}}],` +
			`"passwordSecret":{"name":"bgp-peer1"},"peerASN":64513,"peerAddress":"198.51.100.1","peerPort":1790,"routerID":"198.51.100.3","sourceAddress":"198.51.100.2"}}`,
		`{"kind":"L2Advertisement","name":"lan","spec":{"ipAddressPools":["lan"]}}`,
		`{"kind":"BGPAdvertisement","name":"routed","spec":{"ipAddressPools":["routed"]}}`,
		`{"kind":"BGPAdvertisement","name":"twice-1","spec":{"aggregationLength":24,"aggregationLengthV6":64,"communities":["quiet"],"ipAddressPools":["twice"],"localPref":100}}`,
		`{"kind":"BGPAdvertisement","name":"twice-2","spec":{"aggregationLength":32,"ipAddressPools":["twice"]}}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, problems := config.Parse(r.Objects); len(problems) > 0 {
		t.Errorf("Bellwether says %v", problems)
	}
}

func TestABadConfigMapSaysWhy(t *testing.T) {
	for _, c := range []struct{ config, want string }{
		{`"["`, "ConfigMap config: config (not taken over): it cannot be read"},
		{`"address-pools: [{name: p, protocol: rip, addresses: [192.0.2.0/28]}]"`, `ConfigMap config: address-pools (not taken over): the protocol of pool "p" is "rip": set it to layer2 or bgp`},
		{`"address-pools: [{name: p, protocol: layer2, addresses: [192.0.2.0/28], bgp-advertisements: [{localpref: 1}]}]"`,
			`ConfigMap config: bgp-advertisements (not taken over): pool "p" is announced by layer 2: leave them out, or set its protocol to bgp`},
		{`"address-pool: []"`, "ConfigMap config: address-pool (not taken over): this field is not known"},
	} {
		r := convert(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config}\ndata: {config: "+c.config+"}")
		if got := notes(r); len(got) != 1 || !strings.HasPrefix(got[0], c.want) || !r.Refused() {
			t.Errorf("%s: %q, want %q", c.config, got, c.want)
		}
	}
}
