package kube

import (
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/bellwether-lb/bellwether/api/v1beta1"
	"github.com/bellwether-lb/bellwether/pkg/config/metallb"
)

// Client is typed access to the kinds that Bellwether reads and writes.
type Client struct {
	Config *rest.Config
	Scheme *runtime.Scheme

	Services   func(namespace string) *gentype.ClientWithList[*corev1.Service, *corev1.ServiceList]
	Namespaces *gentype.ClientWithList[*corev1.Namespace, *corev1.NamespaceList]
	Nodes      *gentype.ClientWithList[*corev1.Node, *corev1.NodeList]
	Secrets    func(namespace string) *gentype.ClientWithList[*corev1.Secret, *corev1.SecretList]
	Events     func(namespace string) *gentype.Client[*corev1.Event]
	core       rest.Interface
	metalLB    map[string]rest.Interface // by version
	Pods       func(namespace string) *gentype.ClientWithList[*corev1.Pod, *corev1.PodList]
	ConfigMaps func(namespace string) *gentype.Client[*corev1.ConfigMap]
	Leases     func(namespace string) *gentype.Client[*coordinationv1.Lease]
	Slices     *gentype.ClientWithList[*discoveryv1.EndpointSlice, *discoveryv1.EndpointSliceList]

	Pools    *gentype.ClientWithList[*v1beta1.IPAddressPool, *v1beta1.IPAddressPoolList]
	L2       *gentype.ClientWithList[*v1beta1.L2Advertisement, *v1beta1.L2AdvertisementList]
	Speakers *gentype.ClientWithList[*v1beta1.Speaker, *v1beta1.SpeakerList]

	Peers       *gentype.ClientWithList[*v1beta1.BGPPeer, *v1beta1.BGPPeerList]
	BGP         *gentype.ClientWithList[*v1beta1.BGPAdvertisement, *v1beta1.BGPAdvertisementList]
	Profiles    *gentype.ClientWithList[*v1beta1.BFDProfile, *v1beta1.BFDProfileList]
	Communities *gentype.ClientWithList[*v1beta1.Community, *v1beta1.CommunityList]
}

// Connect prepares a Client; it sends nothing yet. An empty kubeconfig means the Pod's own service account. There is no
// limit on the rate of requests: the API server's own flow control sets the pace.
func Connect(kubeconfig, userAgent string) (*Client, error) {
	read := rest.InClusterConfig
	if kubeconfig != "" {
		read = func() (*rest.Config, error) { return clientcmd.BuildConfigFromFlags("", kubeconfig) }
	}
	cfg, err := read()
	if err != nil {
		return nil, fmt.Errorf("reading how to reach the API server: %w", err)
	}
	cfg.UserAgent = userAgent
	cfg.QPS = -1
	cfg.Timeout = 0
	// Long lists come in three times as fast uncompressed: it is on processors that both ends are short when all speakers start.
	cfg.DisableCompression = true
	return NewClient(cfg)
}

// NewClient makes a Client from a REST configuration.
func NewClient(cfg *rest.Config) (*Client, error) {
	c := &Client{Config: cfg, Scheme: runtime.NewScheme()}
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, coordinationv1.AddToScheme, v1beta1.AddToScheme, addMetalLB} {
		if err := add(c.Scheme); err != nil {
			return nil, fmt.Errorf("registering types: %w", err)
		}
	}
	metav1.AddToGroupVersion(c.Scheme, schema.GroupVersion{Version: "v1"})
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("preparing the HTTP client: %w", err)
	}
	connect := func(gv schema.GroupVersion, path, contentType string) (rest.Interface, error) {
		group := rest.CopyConfig(cfg)
		group.GroupVersion, group.APIPath = &gv, path
		group.NegotiatedSerializer = serializer.NewCodecFactory(c.Scheme).WithoutConversion()
		group.ContentType = contentType
		if contentType == runtime.ContentTypeProtobuf {
			group.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		}
		client, err := rest.RESTClientForConfigAndClient(group, httpClient)
		if err != nil {
			return nil, fmt.Errorf("preparing the client of %s: %w", gv, err)
		}
		return client, nil
	}
	core, err := connect(corev1.SchemeGroupVersion, "/api", runtime.ContentTypeProtobuf)
	if err != nil {
		return nil, err
	}
	discovery, err := connect(discoveryv1.SchemeGroupVersion, "/apis", runtime.ContentTypeProtobuf)
	if err != nil {
		return nil, err
	}
	coordination, err := connect(coordinationv1.SchemeGroupVersion, "/apis", runtime.ContentTypeProtobuf)
	if err != nil {
		return nil, err
	}
	ours, err := connect(v1beta1.GroupVersion(), "/apis", runtime.ContentTypeJSON)
	if err != nil {
		return nil, err
	}
	c.metalLB = map[string]rest.Interface{}
	for _, version := range []string{"v1beta1", "v1beta2"} {
		if c.metalLB[version], err = connect(schema.GroupVersion{Group: metallb.Group, Version: version}, "/apis", runtime.ContentTypeJSON); err != nil {
			return nil, err
		}
	}
	c.bind(core, discovery, coordination, ours)
	return c, nil
}

func (c *Client) bind(core, discovery, coordination, ours rest.Interface) {
	codec := runtime.NewParameterCodec(c.Scheme)
	c.Services = func(namespace string) *gentype.ClientWithList[*corev1.Service, *corev1.ServiceList] {
		return gentype.NewClientWithList("services", core, codec, namespace,
			func() *corev1.Service { return &corev1.Service{} },
			func() *corev1.ServiceList { return &corev1.ServiceList{} },
			gentype.PrefersProtobuf[*corev1.Service]())
	}
	c.Namespaces = gentype.NewClientWithList("namespaces", core, codec, "",
		func() *corev1.Namespace { return &corev1.Namespace{} },
		func() *corev1.NamespaceList { return &corev1.NamespaceList{} },
		gentype.PrefersProtobuf[*corev1.Namespace]())
	c.Nodes = gentype.NewClientWithList("nodes", core, codec, "",
		func() *corev1.Node { return &corev1.Node{} },
		func() *corev1.NodeList { return &corev1.NodeList{} },
		gentype.PrefersProtobuf[*corev1.Node]())
	c.Secrets = func(namespace string) *gentype.ClientWithList[*corev1.Secret, *corev1.SecretList] {
		return gentype.NewClientWithList("secrets", core, codec, namespace,
			func() *corev1.Secret { return &corev1.Secret{} },
			func() *corev1.SecretList { return &corev1.SecretList{} },
			gentype.PrefersProtobuf[*corev1.Secret]())
	}
	c.Events = func(namespace string) *gentype.Client[*corev1.Event] {
		return gentype.NewClient("events", core, codec, namespace,
			func() *corev1.Event { return &corev1.Event{} }, gentype.PrefersProtobuf[*corev1.Event]())
	}
	c.core = core
	c.Pods = func(namespace string) *gentype.ClientWithList[*corev1.Pod, *corev1.PodList] {
		return gentype.NewClientWithList("pods", core, codec, namespace,
			func() *corev1.Pod { return &corev1.Pod{} },
			func() *corev1.PodList { return &corev1.PodList{} },
			gentype.PrefersProtobuf[*corev1.Pod]())
	}
	c.ConfigMaps = func(namespace string) *gentype.Client[*corev1.ConfigMap] {
		return gentype.NewClient("configmaps", core, codec, namespace,
			func() *corev1.ConfigMap { return &corev1.ConfigMap{} }, gentype.PrefersProtobuf[*corev1.ConfigMap]())
	}
	c.Leases = func(namespace string) *gentype.Client[*coordinationv1.Lease] {
		return gentype.NewClient("leases", coordination, codec, namespace,
			func() *coordinationv1.Lease { return &coordinationv1.Lease{} }, gentype.PrefersProtobuf[*coordinationv1.Lease]())
	}
	c.Slices = gentype.NewClientWithList("endpointslices", discovery, codec, "",
		func() *discoveryv1.EndpointSlice { return &discoveryv1.EndpointSlice{} },
		func() *discoveryv1.EndpointSliceList { return &discoveryv1.EndpointSliceList{} },
		gentype.PrefersProtobuf[*discoveryv1.EndpointSlice]())
	c.Pools = gentype.NewClientWithList("ipaddresspools", ours, codec, "",
		func() *v1beta1.IPAddressPool { return &v1beta1.IPAddressPool{} },
		func() *v1beta1.IPAddressPoolList { return &v1beta1.IPAddressPoolList{} })
	c.L2 = gentype.NewClientWithList("l2advertisements", ours, codec, "",
		func() *v1beta1.L2Advertisement { return &v1beta1.L2Advertisement{} },
		func() *v1beta1.L2AdvertisementList { return &v1beta1.L2AdvertisementList{} })
	c.Speakers = gentype.NewClientWithList("speakers", ours, codec, "",
		func() *v1beta1.Speaker { return &v1beta1.Speaker{} },
		func() *v1beta1.SpeakerList { return &v1beta1.SpeakerList{} })
	c.Peers = gentype.NewClientWithList("bgppeers", ours, codec, "",
		func() *v1beta1.BGPPeer { return &v1beta1.BGPPeer{} },
		func() *v1beta1.BGPPeerList { return &v1beta1.BGPPeerList{} })
	c.BGP = gentype.NewClientWithList("bgpadvertisements", ours, codec, "",
		func() *v1beta1.BGPAdvertisement { return &v1beta1.BGPAdvertisement{} },
		func() *v1beta1.BGPAdvertisementList { return &v1beta1.BGPAdvertisementList{} })
	c.Profiles = gentype.NewClientWithList("bfdprofiles", ours, codec, "",
		func() *v1beta1.BFDProfile { return &v1beta1.BFDProfile{} },
		func() *v1beta1.BFDProfileList { return &v1beta1.BFDProfileList{} })
	c.Communities = gentype.NewClientWithList("communities", ours, codec, "",
		func() *v1beta1.Community { return &v1beta1.Community{} },
		func() *v1beta1.CommunityList { return &v1beta1.CommunityList{} })
}

// RequestTimeout bounds one read or write of the programs; watches have none.
const RequestTimeout = 10 * time.Second
