// Command vcsim serves govmomi's vCenter simulator, unchanged, with a generated
// inventory. It is what benches compare with; it is never what "works" means.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/vmware/govmomi/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator"
)

func main() {
	model := simulator.VPX()
	listen := flag.String("l", "127.0.0.1:8989", "host and port to listen on")
	secure := flag.Bool("tls", true, "serve over TLS with a self-signed certificate")
	esx := flag.Bool("esx", false, "look like one ESX host instead of a vCenter")
	user := flag.String("username", "user", "user name that may log in")
	password := flag.String("password", "pass", "that user's password")
	datacenters := flag.Int("dc", model.Datacenter, "datacenters")
	datastores := flag.Int("ds", model.Datastore, "datastores")
	pools := flag.Int("pool", model.Pool, "resource pools in each cluster")
	clusters := flag.Int("cluster", model.Cluster, "clusters")
	hosts := flag.Int("host", model.ClusterHost, "hosts in each cluster")
	standalone := flag.Int("standalone-host", model.Host, "standalone hosts")
	machines := flag.Int("vm", model.Machine, "virtual machines in each resource pool")
	autostart := flag.Bool("autostart", model.Autostart, "power the virtual machines on")
	flag.Parse()

	if *esx {
		model = simulator.ESX()
	} else {
		model.Datacenter = *datacenters
		model.Datastore = *datastores
		model.Pool = *pools
		model.Cluster = *clusters
		model.ClusterHost = *hosts
		model.Host = *standalone
	}
	model.Machine = *machines
	model.Autostart = *autostart
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	model.Service.RegisterEndpoints = true
	model.Service.Listen = &url.URL{Host: *listen, User: url.UserPassword(*user, *password)}
	if *secure {
		model.Service.TLS = &tls.Config{}
	}
	server := model.Service.NewServer()
	defer model.Remove()
	defer server.Close()
	fmt.Printf("export GOVC_URL=%s GOVC_INSECURE=true\n", server.URL)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
