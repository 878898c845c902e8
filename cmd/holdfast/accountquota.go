package main

import (
	"fmt"

	"holdfast/internal/config"
	"holdfast/internal/server"
)

type accountQuota struct {
	dataFlag
	Name  string `arg:"" help:"The account."`
	Quota string `arg:"" help:"A size as '20 GiB', none, or default."`
}

// Help teaches.
func (accountQuota) Help() string {
	return `Bounds how much an account may keep: what is there now, old versions and deleted things together. Beyond it devices are
told that there is no room (507) and keep what they wanted to send; deleting and moving always work. Nothing that is
there is removed. none is no bound; default is what quota in holdfast.conf says.

  holdfast account quota alice "20 GiB" --data /srv/holdfast
  holdfast account quota alice none --data /srv/holdfast
  holdfast account list --data /srv/holdfast`
}

// Run sets a quota.
func (c *accountQuota) Run(s *streams) error {
	var a server.Account
	if err := c.call(s, "account/quota", server.AccountRequest{Name: c.Name, Quota: c.Quota}, &a); err != nil {
		return inDoubt(err, "holdfast account list --data "+shell(c.Data))
	}
	what := "has no quota"
	if a.Quota > 0 {
		what = "may keep " + config.FormatQuota(a.Quota)
	}
	if !a.Own {
		what += ", as all accounts without a quota of their own"
	}
	fmt.Fprintf(s.out, "Account %s %s. It keeps %s now and %s of history.\n", a.Name, what, size(a.Live), size(a.History))
	if a.Quota > 0 && a.Live >= 0 && a.Live+a.History > a.Quota {
		fmt.Fprintf(s.out, "That is more than the quota: its devices can delete, but not send anything new.\n")
	}
	return nil
}
