// govmomi's simulator as a vCenter with many VMs, for `python -m benchmarks.many_vms`.
//
//	vcsim DATACENTERS HOSTS VMS      prints "HOST PORT"; ends when its standard input closes
//
// Each datacenter has a cluster of so many hosts with so many VMs, and a datastore LocalDS_0. User and
// password: user, pass.
package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/vmware/govmomi/simulator"
)

func number(at int) int {
	found, err := strconv.Atoi(os.Args[at])
	if err != nil {
		log.Fatal(err)
	}
	return found
}

// The simulator's own key has 1024 bits, which OpenSSL refuses.
func certificate() tls.Certificate {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		log.Fatal(err)
	}
	year := 365 * 24 * time.Hour
	made := x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-year),
		NotAfter:     time.Now().Add(year),
	}
	der, err := x509.CreateCertificate(rand.Reader, &made, &made, &key.PublicKey, key)
	if err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func main() {
	model := simulator.VPX()
	model.Host = 0
	model.Datacenter = number(1)
	model.ClusterHost = number(2)
	model.Machine = number(3)
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	defer model.Remove()
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{certificate()}}
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword("user", "pass")}
	server := model.Service.NewServer()
	defer server.Close()
	fmt.Println(server.URL.Hostname(), server.URL.Port())
	io.Copy(io.Discard, os.Stdin)
}
