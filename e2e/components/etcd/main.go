// Command etcd is etcd itself, started as its own project starts it: the
// server module carries no main package.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
