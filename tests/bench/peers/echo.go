// Go's net package: one goroutine, one datagram after another.
package main

import (
	"net"
	"net/netip"
	"os"
)

func main() {
	at := netip.MustParseAddrPort("127.0.0.1:" + os.Args[1])
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		panic(err)
	}
	buffer := make([]byte, 65536)
	for {
		n, peer, err := conn.ReadFromUDPAddrPort(buffer)
		if err == nil {
			conn.WriteToUDPAddrPort(buffer[:n], peer)
		}
	}
}
