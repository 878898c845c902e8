package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/auth"
	"holdfast/internal/config"
	"holdfast/internal/server"
)

type accountCommand struct {
	Add         accountAdd      `cmd:"" help:"Make an account."`
	List        accountList     `cmd:"" help:"List the accounts."`
	SetPassword accountPassword `cmd:"" help:"Replace the password of an account."`
	Quota       accountQuota    `cmd:"" help:"Bound how much an account may keep."`
	Remove      accountRemove   `cmd:"" help:"Shut an account; its data is kept."`
	Restore     accountRestore  `cmd:"" help:"Open an account again that was removed."`
}

type accountAdd struct {
	dataFlag
	Name          string `arg:"" help:"Lower-case letters, digits, '.', '_' and '-'."`
	PasswordStdin bool   `help:"Read the password from standard input (one newline at the end is dropped) instead of making one."`
}

// Help teaches.
func (accountAdd) Help() string {
	return `Makes an account with empty contacts, calendar, tasks, Files and Photos. Without --password-stdin a password is
made and shown once. Phones and programs are better given an app password each: holdfast device add.

  holdfast account add alice --data /srv/holdfast
  pass show holdfast/alice | holdfast account add alice --password-stdin --data /srv/holdfast`
}

// Run makes an account.
func (c *accountAdd) Run(s *streams) error {
	password, made, err := password(s, c.PasswordStdin)
	if err != nil {
		return err
	}
	var a auth.Account
	if err := c.call(s, "account/add", server.AccountRequest{Name: c.Name, Password: password}, &a); err != nil {
		return inDoubt(err, "holdfast account list --data "+shell(c.Data))
	}
	fmt.Fprintf(s.out, "Account %s has been made, with contacts, calendar, tasks, Files and Photos.\n", a.Name)
	if made {
		fmt.Fprintf(s.out, "\n  password  %s\n\nIt is shown this once. Change it with: holdfast account set-password %s --data %s\n", password, a.Name, shell(c.Data))
	}
	_, err = fmt.Fprintf(s.out, "\nNext:\n  holdfast device add %s phone --data %s\n", a.Name, shell(c.Data))
	return err
}

// weak is the length below which a password is commented on.
const weak = 10

// password reads a password, or makes one.
func password(s *streams, stdin bool) (text string, made bool, err error) {
	if !stdin {
		return strings.ToLower(rand.Text()), true, nil
	}
	const most = 64 << 10
	b, err := io.ReadAll(io.LimitReader(s.in, most))
	if err != nil {
		return "", false, fmt.Errorf("read password from standard input: %w", err)
	}
	text = strings.TrimSuffix(string(b), "\n")
	if text == "" {
		return "", false, fmt.Errorf("standard input holds no password: %w", errUsage)
	}
	if len(text) < weak {
		fmt.Fprintf(s.err, "warning: a password of less than %d characters is easily guessed\n", weak)
	}
	return text, false, nil
}

// inDoubt says how to find out whether a change was made of which that is not known.
func inDoubt(err error, look string) error {
	if errors.Is(err, holdfast.ErrNotDurable) {
		return fmt.Errorf("%w; the change may have been made all the same, look with: %s", err, look)
	}
	return err
}

type accountList struct {
	dataFlag
	jsonFlag
	All bool `help:"Removed accounts too."`
}

// Help teaches.
func (accountList) Help() string {
	return `Shows each account with its number, by which mirror cat, incident reports and logs name it, how much it keeps now,
how much in old versions and deleted things, and how much it may keep of both together (holdfast account quota).

  holdfast account list --data /srv/holdfast
  holdfast account list --all --json --data /srv/holdfast`
}

// Run lists the accounts.
func (c *accountList) Run(s *streams) error {
	var accounts []server.Account
	if err := c.call(s, "account/list", server.AccountRequest{All: c.All}, &accounts); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.out, accounts)
	}
	if len(accounts) == 0 {
		_, err := fmt.Fprintf(s.out, "no accounts yet: holdfast account add NAME --data %s\n", shell(c.Data))
		return err
	}
	rows := [][]string{{"ACCOUNT", "NAME", "DEVICES", "CREATED", "NOW", "HISTORY", "QUOTA", "STATE"}}
	for _, a := range accounts {
		state := "open"
		if a.Removed != nil {
			state = "removed " + day(*a.Removed)
		}
		rows = append(rows, []string{fmt.Sprint(uint64(a.ID)), a.Name, fmt.Sprint(a.Devices), day(a.Created), size(a.Live), size(a.History), config.FormatQuota(a.Quota), state})
	}
	return table(s.out, rows)
}

type accountPassword struct {
	dataFlag
	Name          string `arg:"" help:"The account."`
	PasswordStdin bool   `help:"Read the password from standard input (one newline at the end is dropped) instead of making one."`
}

// Help teaches.
func (accountPassword) Help() string {
	return `Replaces the account's password at once. App passwords of its devices stay as they are.

  holdfast account set-password alice --data /srv/holdfast
  pass show holdfast/alice | holdfast account set-password alice --password-stdin --data /srv/holdfast`
}

// Run replaces a password.
func (c *accountPassword) Run(s *streams) error {
	password, made, err := password(s, c.PasswordStdin)
	if err != nil {
		return err
	}
	if err := c.call(s, "account/set-password", server.AccountRequest{Name: c.Name, Password: password}, &server.Nothing{}); err != nil {
		return inDoubt(err, "log in with the new password")
	}
	fmt.Fprintf(s.out, "Account %s has a new password; its devices keep their app passwords.\n", c.Name)
	if made {
		fmt.Fprintf(s.out, "\n  password  %s\n\nIt is shown this once.\n", password)
	}
	return nil
}

type accountRemove struct {
	dataFlag
	Name string `arg:"" help:"The account."`
	Yes  bool   `help:"Do it."`
}

// Help teaches.
func (accountRemove) Help() string {
	return `Shuts an account: its password and the app passwords of all its devices are refused from now on. Devices keep
what they have. The data stays in the store and in every mirror, and so does the name: nobody else can have it, and a
phone that still tries it is refused instead of being shown an empty account. Needs --yes.

  holdfast account remove alice --yes --data /srv/holdfast
  holdfast account restore alice --data /srv/holdfast`
}

// Run shuts an account.
func (c *accountRemove) Run(s *streams) error {
	if !c.Yes {
		return fmt.Errorf("this shuts account %s and revokes all its devices; its data and its name are kept, and `holdfast account restore %s` opens it again; say --yes to do it: %w", c.Name, c.Name, errRefused)
	}
	if err := c.call(s, "account/remove", server.AccountRequest{Name: c.Name}, &server.Nothing{}); err != nil {
		return inDoubt(err, "holdfast account list --all --data "+shell(c.Data))
	}
	_, err := fmt.Fprintf(s.out, "Account %s has been shut on %s and its devices are revoked. Its data is kept; open it again with:\n  holdfast account restore %s --data %s\n", c.Name, day(time.Now()), c.Name, shell(c.Data))
	return err
}

type accountRestore struct {
	dataFlag
	Name string `arg:"" help:"The account."`
}

// Help teaches.
func (accountRestore) Help() string {
	return `Opens an account again that was removed, with all its data and its password. Its devices stay revoked; add them again.

  holdfast account restore alice --data /srv/holdfast`
}

// Run opens a removed account.
func (c *accountRestore) Run(s *streams) error {
	if err := c.call(s, "account/restore", server.AccountRequest{Name: c.Name}, &server.Nothing{}); err != nil {
		return inDoubt(err, "holdfast account list --data "+shell(c.Data))
	}
	_, err := fmt.Fprintf(s.out, "Account %s is open again, with its data and its password. Its devices stay revoked; add them with:\n  holdfast device add %s NAME --data %s\n", c.Name, c.Name, shell(c.Data))
	return err
}
