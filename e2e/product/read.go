package product

import (
	"bytes"
	"context"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/util/jsonpath"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// query is what "kubectl get" is asked with -o jsonpath. The scenarios ask it thousands of times, and a program that is started for it
// takes a quarter of a second of the processors that the lab needs.
type query struct {
	namespace, resource, name, template string
}

// queryOf reports whether a command line is a query and nothing more.
func queryOf(args []string) (q query, is bool) {
	q.namespace = metav1.NamespaceDefault
	var words []string
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case (a == "-n" || a == "-o") && i+1 < len(args):
			i++
			if a == "-n" {
				q.namespace = args[i]
			} else if q.template, is = strings.CutPrefix(args[i], "jsonpath="); !is {
				return query{}, false
			}
		case a == "" || strings.HasPrefix(a, "-"):
			return query{}, false
		default:
			words = append(words, a)
		}
	}
	if len(words) == 2 {
		words = append(words, "") // all of them
	}
	if len(words) != 3 || words[0] != "get" || strings.ContainsAny(words[1], ",/") || !strings.Contains(q.template, "{") {
		return query{}, false
	}
	q.resource, q.name = words[1], words[2]
	return q, true
}

// reader answers queries as kubectl does, by the same libraries.
type reader struct {
	objects   dynamic.Interface
	resources meta.RESTMapper
}

func newReader(l *lab.Lab) (*reader, error) {
	config, err := l.RESTConfig()
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	plain, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	known := memory.NewMemCacheClient(plain)
	return &reader{objects, restmapper.NewShortcutExpander(restmapper.NewDeferredDiscoveryRESTMapper(known), known, nil)}, nil
}

// get answers a query.
func (r *reader) get(ctx context.Context, q query) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	kind, err := r.resources.KindFor(schema.ParseGroupResource(q.resource).WithVersion(""))
	if err != nil {
		return "", err
	}
	mapping, err := r.resources.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return "", err
	}
	var of dynamic.ResourceInterface = r.objects.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		of = r.objects.Resource(mapping.Resource).Namespace(q.namespace)
	}
	path := jsonpath.New("query").AllowMissingKeys(true)
	if err := path.Parse(q.template); err != nil {
		return "", err
	}
	content, err := contentOf(ctx, of, q.name)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = path.Execute(&out, content)
	return out.String(), err
}

func contentOf(ctx context.Context, of dynamic.ResourceInterface, name string) (map[string]any, error) {
	if name == "" {
		list, err := of.List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		return list.UnstructuredContent(), nil
	}
	object, err := of.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return object.UnstructuredContent(), nil
}
