package config

import "strconv"

// Limits are what the accounts of a server share, and what one of them may have of it. docs/limits.md has all
// of them, with the answer of each.
type Limits struct {
	MaxRequests     int   // answered at once, of all accounts
	AccountRequests int   // of one account; as many more wait
	RequestMemory   int64 // bytes of bodies and long answers that are held in memory; half of them for one account
}

var defaultLimits = Limits{MaxRequests: 512, AccountRequests: 64, RequestMemory: 64 << 20}

var limitKeys = []key{
	value("max_requests", "Requests answered at once, 16 to 100000, of all accounts. Further ones wait for up to 10s;\nthe account that has the fewest is served first.",
		func(c *Config) *int { return &c.MaxRequests }, func(v string) (int, error) { return number(v, 16, 100000) }, strconv.Itoa),
	value("account_requests", "Requests of one account answered at once, 4 to 10000. As many more wait; beyond that the\ndevice that has the most gets 429.",
		func(c *Config) *int { return &c.AccountRequests }, func(v string) (int, error) { return number(v, 4, 10000) }, strconv.Itoa),
	value("request_memory", "Memory for what requests bring and for long answers, beyond 64 KiB for each request; one\naccount has at most half of it. With MiB or GiB; at least 32 MiB.",
		func(c *Config) *int64 { return &c.RequestMemory }, parseMemory, FormatSize),
}
