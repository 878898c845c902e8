package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Push holds the settings of what tells devices of changes.
type Push struct {
	WebPush    bool        // registrations are taken and messages sent
	PushAllow  []PushAllow // where messages may be sent although it is not a public address
	MaxStreams int         // event streams of one account at once
}

// PushAllow is a network, and the port there.
type PushAllow struct {
	Network netip.Prefix
	Port    uint16 // 0: 443, and 80 without TLS
}

var defaultPush = Push{WebPush: true, MaxStreams: 32}

var pushKeys = []key{
	value("web_push", "yes: phones may register with a push service of their choice, and the server tells it when\nsomething changed, encrypted and without any content. no: nothing is sent out; phones ask\nat their own pace.",
		func(c *Config) *bool { return &c.WebPush }, parseBool, formatBool),
	list("push_allow", "An address or network (CIDR) to which push messages may go although it is not a public\none, as a push service in your own network; behind a space a port, else 443, and 80\nwithout TLS. Never an address that this server listens on. May be given more than once.",
		"192.168.1.20 8080", func(c *Config) *[]PushAllow { return &c.PushAllow }, parsePushAllow, formatPushAllow),
	value("max_streams", "Event streams (docs/events.md) that one account may have open at once, 1 to 10000; for a\nnewer one the oldest ends. Each is a connection.",
		func(c *Config) *int { return &c.MaxStreams }, func(v string) (int, error) { return number(v, 1, 10000) }, strconv.Itoa),
}

func parsePushAllow(v string) (a PushAllow, err error) {
	network, port, has := strings.Cut(v, " ")
	if has {
		n, err := strconv.ParseUint(strings.Trim(port, " \t"), 10, 16)
		if err != nil || n == 0 {
			return a, fmt.Errorf("the port is a number from 1 to 65535")
		}
		a.Port = uint16(n)
	}
	if a.Network, err = parsePrefix(network); err != nil {
		return a, fmt.Errorf("want an address or a network as 10.0.0.0/8, and a port behind a space if it is not 443")
	}
	return a, nil
}

func formatPushAllow(a PushAllow) string {
	if a.Port == 0 {
		return formatPrefix(a.Network)
	}
	return formatPrefix(a.Network) + " " + strconv.Itoa(int(a.Port))
}
