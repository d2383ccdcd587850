package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/bellwether-lb/bellwether/e2e/lab"
	"github.com/bellwether-lb/bellwether/e2e/probe"
	"github.com/bellwether-lb/bellwether/e2e/product"
)

// play is the demo's plot.
type play struct {
	*stage
	product *product.Product
	addrs   []netip.Addr
	owner   string
}

const poolManifest = `apiVersion: bellwether.dev/v1beta1
kind: IPAddressPool
metadata:
  name: office
spec:
  addresses:
    - ` + lab.Pool4 + `
    - ` + lab.Pool6 + `
  advertise: [L2]
`

const serviceManifest = `apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`

// The pods keep off the node that owns the address, so that what is measured is the announcer's own failover: endpoints on
// a dead node stay until Kubernetes notices, and that is Kubernetes' part.
const appManifest = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
              - matchExpressions:
                  - {key: kubernetes.io/hostname, operator: NotIn, values: [%s]}
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - topologyKey: kubernetes.io/hostname
              labelSelector:
                matchLabels: {app: web}
      containers:
        - name: web
          image: bellwether-lab/webserver:dev
          imagePullPolicy: IfNotPresent
          ports: [{containerPort: 8080}]
          env:
            - name: POD_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            - name: NODE_NAME
              valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
`

// kubectl runs and shows a command.
func (p *play) kubectl(ctx context.Context, args ...string) error {
	out, err := p.product.Kubectl(ctx, args...)
	if err != nil {
		return err
	}
	p.show("kubectl "+strings.Join(args, " "), out)
	return nil
}

func (p *play) install(ctx context.Context) error {
	p.act("Bellwether, with the images and manifests that users have")
	p.say("building the images and waiting for the pods ...")
	if err := p.product.Install(ctx); err != nil {
		return err
	}
	p.show("kubectl apply -k config/default", "")
	return p.kubectl(ctx, "-n", product.Namespace, "get", "pods", "-o", "wide", "--no-headers=false")
}

func (p *play) pool(ctx context.Context) error {
	p.act("One object is the whole configuration: a pool of addresses, announced over ARP and NDP")
	p.show("kubectl apply -f -", poolManifest)
	if _, err := p.product.Apply(ctx, poolManifest); err != nil {
		return err
	}
	if _, err := p.product.Kubectl(ctx, "wait", "--for=condition=Ready", "pool/office", "--timeout=30s"); err != nil {
		return err
	}
	return p.kubectl(ctx, "get", "ipaddresspools")
}

func (p *play) service(ctx context.Context) error {
	p.act("A Service of type LoadBalancer, and an app behind it")
	if _, err := p.product.Apply(ctx, serviceManifest); err != nil {
		return err
	}
	var err error
	if p.addrs, err = p.product.Addresses(ctx, "default", "web", 2); err != nil {
		return err
	}
	if p.owner, err = p.waitOwner(ctx, ""); err != nil {
		return err
	}
	if _, err := p.product.Apply(ctx, fmt.Sprintf(appManifest, p.owner)); err != nil {
		return err
	}
	if _, err := p.product.Kubectl(ctx, "rollout", "status", "deployment/web", "--timeout=90s"); err != nil {
		return err
	}
	if err := p.kubectl(ctx, "get", "service", "web"); err != nil {
		return err
	}
	if err := p.kubectl(ctx, "get", "speakers"); err != nil {
		return err
	}
	p.good("%s owns %s; each address has one owner of its own", p.owner, p.addrs[0])
	return nil
}

// waitOwner waits until some node but one says that it answers for the IPv4 address.
func (p *play) waitOwner(ctx context.Context, but string) (string, error) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		owner, err := p.product.Owner(ctx, p.addrs[0])
		if owner != "" && owner != but {
			return owner, nil
		}
		if err != nil {
			return "", err
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no other speaker says that it answers for %s after 30 s", p.addrs[0])
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func url(a netip.Addr) string { return "http://" + netip.AddrPortFrom(a, 80).String() + "/" }

func (p *play) reach(ctx context.Context) error {
	p.act("From a client on the segment")
	for _, a := range p.addrs {
		var out []byte
		var err error
		for range 50 { // kube-proxy may take a moment to hear of the pods
			if out, err = p.product.Lab.CommandContext(ctx, lab.Client, "curl", "-sS", "-m", "2", url(a)).CombinedOutput(); err == nil {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		if err != nil {
			return fmt.Errorf("curl %s from the client: %w: %s", url(a), err, out)
		}
		p.show("curl "+url(a), string(out))
	}
	mac, err := p.product.MAC(ctx, p.owner)
	if err != nil {
		return err
	}
	out, err := p.product.Lab.CommandContext(ctx, lab.Client, "ip", "neighbour", "show", p.addrs[0].String()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("look at the client's neighbours: %w: %s", err, out)
	}
	p.show("ip neighbour show "+p.addrs[0].String(), string(out))
	p.good("that is the hardware address of %s: %s", p.owner, mac)
	return nil
}

// failover takes the owner's power away while the client asks.
func (p *play) failover(ctx context.Context) error {
	p.act(fmt.Sprintf("%s loses power: its link is dead, every process is killed, nothing says goodbye", p.owner))
	arp, err := probe.NewProber(p.product.Lab.NetNS(lab.Client), "eth0", 5*time.Millisecond, p.addrs[0])
	if err != nil {
		return err
	}
	http := probe.NewHTTP(p.product.Lab.HTTPClient(lab.Client, time.Second), url(p.addrs[0]), 20*time.Millisecond)
	probing, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 2)
	go func() { done <- arp.Run(probing) }()
	go func() { done <- http.Run(probing) }()
	p.say("the client asks for %s by ARP every 5 ms, and by HTTP on a new connection every 20 ms", p.addrs[0])
	time.Sleep(2 * time.Second)
	off := time.Now()
	if err := p.product.Lab.PowerOff(ctx, p.owner); err != nil {
		return err
	}
	p.say("power off ...")
	time.Sleep(5 * time.Second)
	stop()
	for range 2 {
		if err := <-done; err != nil {
			return err
		}
	}
	gap := arp.Record().LongestGap(off.Add(-time.Second), time.Now().Add(-500*time.Millisecond))
	outage := probe.Outage(http.Outcomes())
	old := p.owner
	if p.owner, err = p.waitOwner(ctx, old); err != nil {
		return err
	}
	p.good("ARP:  answered again after %v, by %s", gap.Length().Round(time.Millisecond), p.owner)
	p.good("HTTP: out for %v as the client saw it", outage.Length().Round(time.Millisecond))
	return p.kubectl(ctx, "get", "events", "--field-selector", "reason=nodeAssigned", "--sort-by=.lastTimestamp",
		"-o", "custom-columns=REASON:.reason,OBJECT:.involvedObject.name,MESSAGE:.message")
}

// comeback gives the power back and shows that nothing is lost or answered twice.
func (p *play) comeback(ctx context.Context) error {
	var off string
	for _, n := range p.product.Lab.Nodes() {
		if p.product.Lab.PoweredOff(n.Name) {
			off = n.Name
		}
	}
	p.act(off + " comes back, and takes its address back once it is ready")
	arp, err := probe.NewProber(p.product.Lab.NetNS(lab.Client), "eth0", 5*time.Millisecond, p.addrs[0])
	if err != nil {
		return err
	}
	probing, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- arp.Run(probing) }()
	if err := p.product.Lab.PowerOn(ctx, off); err != nil {
		return err
	}
	if p.owner, err = p.waitOwner(ctx, p.owner); err != nil {
		return err
	}
	time.Sleep(time.Second)
	stop()
	if err := <-done; err != nil {
		return err
	}
	record := arp.Record()
	p.good("%s owns %s again; of %d questions that were asked meanwhile, %d were not answered and %d answered twice; the slowest answer took %v",
		p.owner, p.addrs[0], arp.Asks(), len(arp.Unanswered()), len(record.Doubles()), record.Slowest().Round(time.Millisecond))
	return nil
}

func (p *play) farewell(took time.Duration) {
	p.act("Over to you")
	p.say("That took %v. The cluster is still up:", took.Round(time.Second))
	p.say("  make kubectl ARGS=\"get pools,speakers,services -A\"     look around")
	p.say("  make lab ARGS=\"exec client -- curl -s %s\"     be the client", url(p.addrs[0]))
	p.say("  make lab ARGS=\"power-off node-1\"                       pull a plug")
	p.say("  make demo-down                                         take it all down")
}
