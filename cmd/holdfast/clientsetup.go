package main

import (
	"errors"
	"fmt"
	"strings"

	"holdfast"
	"holdfast/internal/auth"
	"holdfast/internal/config"
	"holdfast/internal/doctor"
	"holdfast/internal/server"
	"holdfast/internal/setup"
)

type clientSetupCommand struct {
	dataFlag
	Name string `arg:"" optional:"" help:"The account. Without it the steps say NAME."`

	For           string `placeholder:"PROGRAM" help:"Show the steps of one device or program, or of all."`
	Profile       bool   `help:"Print a configuration profile for iPhone, iPad and Mac."`
	Records       bool   `help:"Print the DNS records to publish."`
	Domain        string `help:"With --records and --check: the domain behind the @ of people's addresses, if it is not the server's own name."`
	Check         bool   `help:"Do what a device would do over the public address, and say what is wrong."`
	PasswordStdin bool   `help:"Read a password of the account from standard input: --check then goes on behind the login, --profile puts it in."`
	Address       string `placeholder:"URL" help:"How devices reach the server, instead of public_url."`
	QR            string `name:"qr" enum:"dark,light,none" default:"dark" help:"Draw the QR code for a dark or a light terminal, or not at all (${enum})."`
}

// Help teaches.
func (clientSetupCommand) Help() string {
	return `Shows what to enter on each phone, PC and program, as the page at /setup does. --for takes the words in the last
lines of what it shows, or all.

--profile prints a file for Apple's devices: send it to the device, or open /setup there. There is no password in it;
the device asks. --records prints what to put into the zone of your domain, so that programs find the server from
alice@example.org. --check asks the public address what devices ask, and changes nothing: exit code 1 if one would fail.

  holdfast client-setup alice --data /srv/holdfast
  holdfast client-setup alice --for davx5 --data /srv/holdfast
  holdfast client-setup alice --profile --data /srv/holdfast >alice.mobileconfig
  holdfast client-setup --records --domain example.org --data /srv/holdfast
  pass show holdfast/alice-phone | holdfast client-setup alice --check --password-stdin --data /srv/holdfast`
}

// Run shows, or checks.
func (c *clientSetupCommand) Run(s *streams) error {
	if c.Name == "" && (c.Profile || c.PasswordStdin) {
		return fmt.Errorf("--profile and --password-stdin are for one account: name it: %w", errUsage)
	}
	if c.PasswordStdin && !c.Profile && !c.Check {
		return fmt.Errorf("--password-stdin goes with --check or --profile: %w", errUsage)
	}
	f, err := c.facts(s)
	if err != nil {
		return err
	}
	secret := ""
	if c.PasswordStdin {
		if secret, _, err = password(s, true); err != nil {
			return err
		}
	}
	switch {
	case c.Check:
		return c.check(s, f, secret)
	case c.Profile:
		b, err := f.Profile(secret)
		if err == nil {
			_, err = s.out.Write(b)
		}
		return err
	case c.Records:
		text, err := f.Records(c.Domain)
		if err != nil {
			return fmt.Errorf("%w; set public_url, or give --address", err)
		}
		_, err = fmt.Fprint(s.out, text)
		return err
	case c.For != "":
		return c.guides(s, f)
	}
	return c.overview(s, f)
}

// facts says how the server is reached. The account is looked up, so that nobody gets steps for a typing mistake.
func (c *clientSetupCommand) facts(s *streams) (setup.Facts, error) {
	dir, err := c.dir()
	if err != nil {
		return setup.Facts{}, err
	}
	settings, err := config.Load(dir)
	if err != nil {
		return setup.Facts{}, err
	}
	if c.Name != "" {
		var accounts []auth.Account
		if err := c.call(s, "account/list", server.AccountRequest{}, &accounts); err != nil {
			return setup.Facts{}, err
		}
		found := false
		for _, a := range accounts {
			found = found || a.Name == c.Name
		}
		if !found {
			return setup.Facts{}, fmt.Errorf("account %q: %w; holdfast account list --data %s", c.Name, holdfast.ErrNotFound, shell(c.Data))
		}
	}
	origin := c.Address
	if origin == "" {
		origin = settings.PublicURL
	}
	if origin == "" {
		origin = "http://" + settings.Listen[0]
		if settings.TLS() {
			origin = "https://" + settings.Listen[0]
		}
		fmt.Fprintf(s.err, "public_url is not set: what follows is right for this machine only (holdfast config describe)\n\n")
	}
	return setup.NewFacts(strings.TrimSuffix(origin, "/"), c.Name, settings.ServerID)
}

func (c *clientSetupCommand) overview(s *streams, f setup.Facts) error {
	name, page := c.Name, f.Page()
	if name == "" {
		name = "NAME"
	}
	fmt.Fprintf(s.out, "Every program asks for three things:\n\n  address   %s\n  files     %s\n  name      %s\n  password  an app password, one for each device: holdfast device add %s phone --data %s\n",
		f.Address(), f.Files(), name, name, shell(c.Data))
	fmt.Fprintf(s.out, "\nThe steps for each, to open on the device itself:\n\n  %s\n", page)
	if err := c.davx5(s, f); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\nThe same steps here, with --for:\n\n")
	var rows [][]string
	for _, g := range setup.Guides() {
		rows = append(rows, []string{"  " + g.ID, g.Name, g.For})
	}
	return table(s.out, rows)
}

// davx5 prints the link of a phone's login, and its code.
func (c *clientSetupCommand) davx5(s *streams, f setup.Facts) error {
	fmt.Fprintf(s.out, "\nA link that opens DAVx5 on Android with address and name filled in:\n\n  %s\n", f.DAVx5())
	if c.QR == "none" {
		return nil
	}
	code, err := setup.QRText(f.DAVx5(), c.QR == "light")
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(s.out, code)
	return err
}

func (c *clientSetupCommand) guides(s *streams, f setup.Facts) error {
	if c.For == "all" {
		for i, g := range setup.Guides() {
			if i > 0 {
				fmt.Fprintln(s.out)
			}
			fmt.Fprint(s.out, g.Text(f))
		}
		return nil
	}
	g, ok := setup.Find(c.For)
	if !ok {
		var ids []string
		for _, g := range setup.Guides() {
			ids = append(ids, g.ID)
		}
		return fmt.Errorf("--for %s is not known; there are %s, and all: %w", c.For, strings.Join(ids, ", "), errUsage)
	}
	if _, err := fmt.Fprint(s.out, g.Text(f)); err != nil || g.ID != "davx5" {
		return err
	}
	return c.davx5(s, f)
}

var errDeviceFails = errors.New("a device would not work")

func (c *clientSetupCommand) check(s *streams, f setup.Facts, secret string) error {
	found := doctor.AsDevice(s.ctx, doctor.DeviceOptions{Origin: strings.TrimSuffix(f.Address(), "/"), Name: c.Name, Password: secret, Domain: c.Domain})
	if err := printFindings(s.out, found); err != nil {
		return err
	}
	if problems, _ := count(found); problems > 0 {
		return errDeviceFails
	}
	if secret == "" {
		fmt.Fprintf(s.out, "What is behind the login was not tried: give --password-stdin for that.\n")
	}
	return nil
}
