package main

import (
	"fmt"

	"holdfast/internal/auth"
	"holdfast/internal/server"
)

type deviceCommand struct {
	Add    deviceAdd    `cmd:"" help:"Make an app password for a device."`
	List   deviceList   `cmd:"" help:"List the devices of an account."`
	Revoke deviceRevoke `cmd:"" help:"End a device's app password at once."`
}

type deviceAdd struct {
	dataFlag
	jsonFlag
	Account string `arg:"" help:"The account."`
	Name    string `arg:"" help:"What to call the device, as phone."`
}

// Help teaches.
func (deviceAdd) Help() string {
	return `Makes an app password for one phone, PC or program and shows it once. Give each its own: a lost phone is then shut
out by itself, and the history says which device changed what.

  holdfast device add alice phone --data /srv/holdfast`
}

// Run makes a device.
func (c *deviceAdd) Run(s *streams) error {
	var d server.NewDevice
	if err := c.call(s, "device/add", server.DeviceRequest{Account: c.Account, Device: c.Name}, &d); err != nil {
		return inDoubt(err, "holdfast device list "+c.Account+" --data "+shell(c.Data))
	}
	if c.JSON {
		return printJSON(s.out, d)
	}
	fmt.Fprintf(s.out, "Device %d (%s) has been added to account %s. Enter on the device:\n\n", d.ID, d.Name, c.Account)
	for _, u := range d.URLs {
		fmt.Fprintf(s.out, "  address   %s\n", u)
	}
	_, err := fmt.Fprintf(s.out, "  name      %s\n  password  %s\n\nThe password is shown this once; capitals and hyphens do not matter.\n", c.Account, d.Password)
	return err
}

type deviceList struct {
	dataFlag
	jsonFlag
	Account string `arg:"" help:"The account."`
	All     bool   `help:"Revoked devices too."`
}

// Help teaches.
func (deviceList) Help() string {
	return `Shows each device with its number, by which mirror cat names it, and when it was last in touch since the server
started.

  holdfast device list alice --data /srv/holdfast
  holdfast device list alice --all --json --data /srv/holdfast`
}

// Run lists devices.
func (c *deviceList) Run(s *streams) error {
	var devices []auth.Device
	if err := c.call(s, "device/list", server.DeviceRequest{Account: c.Account, All: c.All}, &devices); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.out, devices)
	}
	if len(devices) == 0 {
		_, err := fmt.Fprintf(s.out, "no devices yet: holdfast device add %s NAME --data %s\n", c.Account, shell(c.Data))
		return err
	}
	rows := [][]string{{"ID", "NAME", "CREATED", "LAST SEEN", "STATE"}}
	for _, d := range devices {
		state, seen := "active", "not since the start"
		if d.Revoked != nil {
			state = "revoked " + day(*d.Revoked)
		}
		if d.LastSeen != nil {
			seen = day(*d.LastSeen)
		}
		rows = append(rows, []string{fmt.Sprint(d.ID), d.Name, day(d.Created), seen, state})
	}
	return table(s.out, rows)
}

type deviceRevoke struct {
	dataFlag
	Account string `arg:"" help:"The account."`
	Device  string `arg:"" help:"Name or id of the device."`
}

// Help teaches.
func (deviceRevoke) Help() string {
	return `Ends the app password of one device at once. The device keeps what it has, and what it wrote stays.

  holdfast device revoke alice phone --data /srv/holdfast`
}

// Run revokes a device.
func (c *deviceRevoke) Run(s *streams) error {
	var d auth.Device
	if err := c.call(s, "device/revoke", server.DeviceRequest{Account: c.Account, Device: c.Device}, &d); err != nil {
		return inDoubt(err, "holdfast device list "+c.Account+" --all --data "+shell(c.Data))
	}
	_, err := fmt.Fprintf(s.out, "Device %d (%s) of account %s is revoked. Its app password is refused from now on.\n", d.ID, d.Name, c.Account)
	return err
}
