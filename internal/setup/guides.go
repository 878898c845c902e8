package setup

// Guide says how one device or program is connected. Texts hold {address} and other facts of fill;
// what is between backticks is typed or copied, what is between asterisks stands on the screen.
type Guide struct {
	ID    string // of --for and of the page's links
	Group string
	Name  string
	For   string // what it brings
	Steps []string
	Shell []string // commands, instead of or after the steps
	Notes []string
	Tried string // which version did this in a test, or that nobody has tried
}

// Groups of guides, in the order they are shown.
const (
	apple   = "iPhone, iPad, Mac"
	android = "Android"
	windows = "Windows"
	desktop = "Linux, and programs for every desktop"
	shells  = "Programs without windows"
)

const appPassword = "the app password of this device"

// guides is the one table. Menus are named as in the newest version, with what older ones call them.
var guides = []Guide{
	{
		ID: "iphone", Group: apple, Name: "iPhone, iPad", For: "contacts, calendars, reminders",
		Steps: []string{
			"*Settings > Apps > Contacts > Contacts Accounts > Add Account > Other > Add CardDAV Account*: server `{host}`, user name `{name}`, and as password " + appPassword + ".",
			"*Settings > Apps > Calendar > Calendar Accounts > Add Account > Other > Add CalDAV Account*: the same three. It brings Reminders too.",
		},
		Notes: []string{"Before iOS 18 both are under *Settings > Contacts > Accounts* and *Settings > Calendar > Accounts*."},
		Tried: "not yet tried on a real iPhone",
	},
	{
		ID: "profile", Group: apple, Name: "iPhone, iPad, Mac: with a configuration profile", For: "the same, in one step",
		Steps: []string{
			"Open `{page}` in Safari on the device, choose *Fill in for my account*, then *Download the profile*, and *Allow*.",
			"iPhone, iPad: *Settings > Profile Downloaded > Install*. Mac: *System Settings > General > Device Management* (before macOS 15 *Privacy & Security > Profiles*), and open it.",
			"The device says *Not Signed* or *Unverified*: nobody has vouched for the file but this server. Go on only if it names `{hostname}` and you have just downloaded it yourself.",
			"It asks for a password, once for each account: " + appPassword + ".",
		},
		Notes: []string{"Installed again it takes the place of the one before. Removed, it takes these accounts and their data from the device, not from the server."},
		Tried: "not yet tried on a real iPhone or Mac",
	},
	{
		ID: "mac", Group: apple, Name: "Mac", For: "contacts, calendars, reminders",
		Steps: []string{
			"*System Settings > Internet Accounts > Add Account > Add Other Account > CardDAV account*: account type *Manual*, user name `{name}`, " + appPassword + ", server address `{host}`.",
			"The same with *CalDAV account*. It brings Reminders too.",
		},
		Tried: "not yet tried on a real Mac",
	},
	{
		ID: "finder", Group: apple, Name: "Mac: Finder", For: "files",
		Steps: []string{"*Go > Connect to Server*: `{files}`, then *Registered User*, name `{name}`, " + appPassword + "."},
		Tried: "not yet tried on a real Mac",
	},
	{
		ID: "davx5", Group: android, Name: "DAVx⁵", For: "contacts, calendars, to-dos",
		Steps: []string{
			"Install DAVx⁵. For to-dos install a task app first, such as Tasks.org or jtx Board.",
			"Open the link `{davx5}` on the phone, or scan its QR code: DAVx⁵ opens with address and name filled in. Or by hand: *+ > Login with URL and user name*, base URL `{address}`, user name `{name}`.",
			"Enter " + appPassword + ", then *Login*.",
			"Choose the address book, the calendars and the task lists that shall be on the phone.",
		},
		Notes: []string{"If the camera shows the link as text only, copy it into the browser's address line, or enter the base URL by hand."},
		Tried: "not yet tried on a real phone; tests follow its source code",
	},
	{
		ID: "outlook", Group: windows, Name: "Outlook with CalDav Synchronizer", For: "contacts, calendars, tasks",
		Steps: []string{
			"Install the add-in CalDav Synchronizer. In Outlook: *CalDav Synchronizer > Synchronization Profiles > Add > Generic CalDAV/CardDAV*.",
			"DAV URL `{address}`, user name `{name}`, " + appPassword + ", then *Test or discover settings*, and choose one calendar, address book or task list.",
			"One profile for each Outlook folder.",
		},
		Notes: []string{"It works with the classic Outlook for Windows, not with the new one."},
		Tried: "not yet tried",
	},
	{
		ID: "explorer", Group: windows, Name: "Windows Explorer", For: "files",
		Steps: []string{
			"*This PC > Map network drive*: folder `{files}`, with *Connect using different credentials*; user name `{name}`, " + appPassword + ".",
		},
		Notes: []string{
			"Windows refuses to send a password to an address that begins with http:.",
			"Windows moves no file larger than 50 MB this way until `FileSizeLimitInBytes` below `HKLM\\SYSTEM\\CurrentControlSet\\Services\\WebClient\\Parameters` is raised, and needs its service *WebClient*. For large files use rclone.",
		},
		Tried: "not yet tried",
	},
	{
		ID: "thunderbird", Group: desktop, Name: "Thunderbird", For: "contacts, calendars, to-dos",
		Steps: []string{
			"*Calendar > New Calendar > On the Network*: user name `{name}`, location `{address}`, *Find Calendars*, " + appPassword + ". Choose calendars and task lists.",
			"*Address Book > New > Add CardDAV Address Book*: user name `{name}`, location `{address}`, " + appPassword + ".",
		},
		Tried: "not yet tried; tests follow its source code",
	},
	{
		ID: "gnome", Group: desktop, Name: "GNOME Online Accounts", For: "contacts, calendars, to-dos and files, for all of GNOME",
		Steps: []string{"*Settings > Online Accounts > Calendar, Contacts and Files* (GNOME 46 or newer): server address `{address}`, user name `{name}`, " + appPassword + "."},
		Tried: "not yet tried",
	},
	{
		ID: "evolution", Group: desktop, Name: "Evolution", For: "contacts, calendars, to-dos",
		Steps: []string{
			"*File > New > Calendar*, type *CalDAV*: URL `{address}`, user `{name}`, *Find Calendars*, " + appPassword + ". The same with *New > Task List*.",
			"*File > New > Address Book*, type *CardDAV*: URL `{address}`, user `{name}`, *Find Address Books*.",
		},
		Tried: "not yet tried",
	},
	{
		ID: "filemanager", Group: desktop, Name: "GNOME Files, KDE Dolphin", For: "files",
		Steps: []string{
			"GNOME Files: *Other Locations > Connect to Server*: `{davs}://{name}@{host}{home}Files/`.",
			"Dolphin, in the address line: `{webdavs}://{name}@{host}{home}Files/`.",
		},
		Tried: "not yet tried",
	},
	{
		ID: "vdirsyncer", Group: shells, Name: "vdirsyncer, and with it khal, khard, todoman", For: "contacts, calendars, to-dos as plain files",
		Steps: []string{
			"Storages of type `carddav` and `caldav` with `url = \"{address}\"`, `username = \"{name}\"` and " + appPassword + "; collections `contacts`, `calendar`, `tasks`.",
			"`vdirsyncer discover`, then `vdirsyncer sync`. Line by line: docs/connect.md.",
		},
		Tried: "vdirsyncer 0.19.0, khal 0.10.5, khard 0.18.0, todoman 4.1.0: in every test run",
	},
	{
		ID: "calcurse", Group: shells, Name: "calcurse", For: "one calendar",
		Steps: []string{"`calcurse-caldav` with `Hostname = {host}`, `Path = {home}calendar/`, `Username = {name}` and " + appPassword + "."},
		Tried: "4.7.1: in every test run",
	},
	{
		ID: "rclone", Group: shells, Name: "rclone", For: "files of any size",
		Shell: []string{"rclone config create cloud webdav url={files} vendor=other user={name} pass=$(rclone obscure PASSWORD)"},
		Tried: "1.60.1: in every test run",
	},
	{
		ID: "cadaver", Group: shells, Name: "cadaver", For: "files",
		Shell: []string{"cadaver {files}"},
		Tried: "0.24: in every test run",
	},
	{
		ID: "davfs2", Group: shells, Name: "davfs2", For: "files as a mounted disk",
		Shell: []string{"mount -t davfs {files} /mnt/cloud"},
		Notes: []string{"A file that is open is locked for others. On two machines set another lock_owner on each (davfs2.conf): a disk takes locks of its own owner for its own."},
		Tried: "1.6.1: in every test run, with locks",
	},
}

// Guides returns the table.
func Guides() []Guide { return guides }

// Find returns a guide by its id.
func Find(id string) (Guide, bool) {
	for _, g := range guides {
		if g.ID == id {
			return g, true
		}
	}
	return Guide{}, false
}

// Filled returns the guide with the facts in it.
func (g Guide) Filled(f Facts) Guide {
	each := func(in []string) []string {
		out := make([]string, len(in))
		for i, s := range in {
			out[i] = f.fill(s)
		}
		return out
	}
	g.Steps, g.Shell, g.Notes = each(g.Steps), each(g.Shell), each(g.Notes)
	return g
}

// span is a piece of a text: said, shown on the screen, or typed.
type span struct {
	Text string
	Kind byte // 0, '*' or '`'
}

// spans splits a text of the table at its marks. A mark without its end is an ordinary character.
func spans(text string) []span {
	var out []span
	add := func(s string, kind byte) {
		if s != "" {
			out = append(out, span{s, kind})
		}
	}
	start := 0
	for i := 0; i < len(text); i++ {
		if text[i] != '*' && text[i] != '`' {
			continue
		}
		end := i + 1
		for end < len(text) && text[end] != text[i] {
			end++
		}
		if end == len(text) {
			break
		}
		add(text[start:i], 0)
		add(text[i+1:end], text[i])
		i, start = end, end+1
	}
	add(text[start:], 0)
	return out
}
