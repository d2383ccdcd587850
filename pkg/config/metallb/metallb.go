package metallb

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/config"
)

// Result is what a configuration of MetalLB is for Bellwether. The order is that of the input.
type Result struct {
	config.Objects
	// Secrets are to be in Bellwether's namespace. Those with a password are from inside a BGPPeer; those without are to be copied.
	Secrets []Secret
	Notes   []Note
}

// Secret is a Secret of type kubernetes.io/basic-auth.
type Secret struct {
	Name     string
	Password string // empty: as that in From has it
	From     string // namespace of MetalLB's own
}

// Note says what a person has to know of an object.
type Note struct {
	Object  string // its kind and name, or the ConfigMap's
	Field   string // empty where it is about the whole object
	Refused bool   // the field, or the object, is not taken over
	Text    string // a sentence
}

func (n Note) String() string {
	text := n.Object
	if n.Field != "" {
		text += ": " + n.Field
	}
	if n.Refused {
		text += " (not taken over)"
	}
	return text + ": " + n.Text
}

// Refused reports whether anything is not taken over.
func (r *Result) Refused() bool {
	return slices.ContainsFunc(r.Notes, func(n Note) bool { return n.Refused })
}

// Group is the API group of its objects.
const Group = "metallb.io"

// Convert reads objects, each as JSON. Those that are no configuration of MetalLB are passed over, with a note. toJSON turns the YAML in a
// ConfigMap into JSON.
func Convert(objects []json.RawMessage, toJSON func(yaml []byte) ([]byte, error)) Result {
	c := converter{toJSON: toJSON, seen: map[string]string{}}
	for _, raw := range objects {
		var o object
		if err := json.Unmarshal(raw, &o); err != nil {
			c.refuse("an object", "", "it cannot be read: %v", err)
			continue
		}
		c.object(&o)
	}
	return c.Result
}

type converter struct {
	Result

	toJSON func([]byte) ([]byte, error)
	seen   map[string]string // kind and name -> namespace
}

func (c *converter) note(object, field, format string, args ...any) {
	c.Notes = append(c.Notes, Note{Object: object, Field: field, Text: fmt.Sprintf(format, args...)})
}

func (c *converter) refuse(object, field, format string, args ...any) {
	c.Notes = append(c.Notes, Note{Object: object, Field: field, Refused: true, Text: fmt.Sprintf(format, args...)})
}

func (c *converter) object(o *object) {
	name := o.Kind + " " + o.Name
	apiGroup, version, _ := strings.Cut(o.APIVersion, "/")
	switch {
	case o.APIVersion == "v1" && o.Kind == "ConfigMap" && o.Data["config"] != "":
		c.configMap(name, o.Data["config"])
		return
	case apiGroup != Group:
		c.note(name, "", "it is no configuration of MetalLB, and passed over")
		return
	}
	if before, twice := c.seen[name]; twice {
		c.refuse(name, "", "there is another one of that name, in namespace %s: objects of Bellwether are in no namespace; rename one of them", before)
		return
	}
	c.seen[name] = cmp.Or(o.Namespace, "default")
	kinds := map[string]func(name string, o *object){
		"IPAddressPool/v1beta1": c.pool, "L2Advertisement/v1beta1": c.l2Advertisement, "BGPAdvertisement/v1beta1": c.bgpAdvertisement,
		"BGPPeer/v1beta1": c.peer, "BGPPeer/v1beta2": c.peer, "BFDProfile/v1beta1": c.bfdProfile, "Community/v1beta1": c.community,
	}
	convert, known := kinds[o.Kind+"/"+version]
	switch {
	case known:
		convert(name, o)
	case slices.Contains([]string{"ServiceL2Status", "ServiceBGPStatus", "ConfigurationState"}, o.Kind):
		c.note(name, "", "it is MetalLB's status, and passed over: Bellwether says the same in Services' conditions and Speaker objects")
	default:
		c.refuse(name, "", "%s of %s is not known: convert it to a version of today with MetalLB first", o.Kind, o.APIVersion)
	}
}

// read reads a spec. Fields that are not known are named.
func (c *converter) read(name string, spec map[string]any, into any) {
	raw, err := json.Marshal(spec)
	if err != nil {
		c.refuse(name, "", "it cannot be read: %v", err)
		return
	}
	unknown, err := kjson.UnmarshalStrict(raw, into)
	if err != nil {
		c.refuse(name, "", "it cannot be read: %v", err)
	}
	for _, u := range unknown {
		field := strings.Trim(strings.TrimPrefix(u.Error(), "unknown field "), `"`)
		c.refuse(name, field, "this field is not known")
	}
}

// meta keeps the name, the labels, which selectors of advertisements may name, and the age: of two that overlap the elder counts.
func meta(o *object) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: o.Name, Labels: o.Labels, CreationTimestamp: o.CreationTimestamp}
}

func kind(k string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: v1beta1.GroupVersion().String(), Kind: k}
}

func (c *converter) pool(name string, o *object) {
	var spec poolSpec
	c.read(name, o.Spec, &spec)
	c.Pools = append(c.Pools, v1beta1.IPAddressPool{TypeMeta: kind("IPAddressPool"), ObjectMeta: meta(o), Spec: v1beta1.IPAddressPoolSpec{
		Addresses: spec.Addresses, AutoAssign: spec.AutoAssign, AvoidBuggyIPs: spec.AvoidBuggyIPs, ServiceAllocation: spec.ServiceAllocation}})
}

func (c *converter) l2Advertisement(name string, o *object) {
	adv := v1beta1.L2Advertisement{TypeMeta: kind("L2Advertisement"), ObjectMeta: meta(o)}
	c.read(name, o.Spec, &adv.Spec) // its fields are MetalLB's
	c.L2Advertisements = append(c.L2Advertisements, adv)
}

func (c *converter) bgpAdvertisement(name string, o *object) {
	var spec bgpAdvertisementSpec
	c.read(name, o.Spec, &spec)
	c.BGPAdvertisements = append(c.BGPAdvertisements, v1beta1.BGPAdvertisement{TypeMeta: kind("BGPAdvertisement"), ObjectMeta: meta(o), Spec: v1beta1.BGPAdvertisementSpec{
		IPAddressPools: spec.IPAddressPools, IPAddressPoolSelectors: spec.IPAddressPoolSelectors, ServiceSelectors: spec.ServiceSelectors,
		NodeSelectors: spec.NodeSelectors, Peers: spec.Peers, AggregationLength: spec.AggregationLength, AggregationLengthV6: spec.AggregationLengthV6,
		LocalPref: spec.LocalPref, Communities: spec.Communities}})
}

func (c *converter) peer(name string, o *object) {
	var spec peerSpec
	c.read(name, o.Spec, &spec)
	peer := v1beta1.BGPPeer{TypeMeta: kind("BGPPeer"), ObjectMeta: meta(o), Spec: v1beta1.BGPPeerSpec{
		MyASN: spec.MyASN, DynamicASN: spec.DynamicASN, LocalASN: spec.LocalASN, PeerAddress: spec.PeerAddress, Interface: spec.Interface,
		PeerPort: spec.PeerPort, SourceAddress: spec.SourceAddress, HoldTime: spec.HoldTime, KeepaliveTime: spec.KeepaliveTime,
		ConnectTime: spec.ConnectTime, RouterID: spec.RouterID, NodeSelectors: spec.NodeSelectors, BFDProfile: spec.BFDProfile,
		EBGPMultiHop: spec.EBGPMultiHop, VRF: spec.VRF, DualStackAddressFamily: spec.DualStackAddressFamily}}
	if spec.PeerASN != 0 {
		peer.Spec.PeerASN = &spec.PeerASN
	}
	if spec.EnableGracefulRestart {
		peer.Spec.GracefulRestart = &v1beta1.GracefulRestart{Enabled: true}
		c.note(name, "enableGracefulRestart", "routers keep routes for 30 s, not 120 s: set gracefulRestart.restartTime for another time")
	}
	if isZero(spec.KeepaliveTime) {
		peer.Spec.KeepaliveTime = ""
		c.note(name, "keepaliveTime", "%s stands for the default, a third of holdTime", spec.KeepaliveTime)
	}
	if spec.DisableMP {
		c.note(name, "disableMP", "a session announces the family of its addresses alone unless dualStackAddressFamily is true, as disableMP asks for")
	}
	if ref := spec.PasswordSecret; ref.Name != "" {
		from := cmp.Or(ref.Namespace, o.Namespace)
		peer.Spec.PasswordSecret = &v1beta1.SecretReference{Name: ref.Name}
		c.Secrets = append(c.Secrets, Secret{Name: ref.Name, From: from})
		c.note(name, "passwordSecret", "copy the Secret %s of namespace %s to Bellwether's namespace", ref.Name, cmp.Or(from, "metallb-system"))
	}
	c.inlinePassword(name, &peer, spec.Password)
	c.BGPPeers = append(c.BGPPeers, peer)
}

func isZero(duration string) bool {
	d, err := time.ParseDuration(duration)
	return err == nil && d == 0
}

// inlinePassword moves a password out of an object that everybody may read who may read the object.
func (c *converter) inlinePassword(name string, peer *v1beta1.BGPPeer, password string) {
	switch {
	case password == "":
		return
	case peer.Spec.PasswordSecret != nil:
		c.refuse(name, "password", "there is a passwordSecret as well: leave out one of them")
		return
	}
	secret := "bgp-" + peer.Name
	peer.Spec.PasswordSecret = &v1beta1.SecretReference{Name: secret}
	c.Secrets = append(c.Secrets, Secret{Name: secret, Password: password})
	c.note(name, "password", "it is in the Secret %s now", secret)
}

func (c *converter) bfdProfile(name string, o *object) {
	profile := v1beta1.BFDProfile{TypeMeta: kind("BFDProfile"), ObjectMeta: meta(o)}
	c.read(name, o.Spec, &profile.Spec) // its fields are MetalLB's
	c.BFDProfiles = append(c.BFDProfiles, profile)
}

func (c *converter) community(name string, o *object) {
	community := v1beta1.Community{TypeMeta: kind("Community"), ObjectMeta: meta(o)}
	c.read(name, o.Spec, &community.Spec) // its fields are MetalLB's
	c.Communities = append(c.Communities, community)
}

// Manifests are all objects of the result, Secrets included, in the order in which they are to be created. Secrets that are to be copied are
// left out.
func (r *Result) Manifests(namespace string) []any {
	var all []any
	for _, s := range r.Secrets {
		if s.Password != "" {
			all = append(all, &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: namespace},
				Type: corev1.SecretTypeBasicAuth, StringData: map[string]string{corev1.BasicAuthPasswordKey: s.Password}})
		}
	}
	for i := range r.Communities {
		all = append(all, &r.Communities[i])
	}
	for i := range r.BFDProfiles {
		all = append(all, &r.BFDProfiles[i])
	}
	for i := range r.Pools {
		all = append(all, &r.Pools[i])
	}
	for i := range r.BGPPeers {
		all = append(all, &r.BGPPeers[i])
	}
	for i := range r.L2Advertisements {
		all = append(all, &r.L2Advertisements[i])
	}
	for i := range r.BGPAdvertisements {
		all = append(all, &r.BGPAdvertisements[i])
	}
	return all
}
