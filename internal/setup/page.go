package setup

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
)

// style is the page's only one. It follows the reader's choice of light or dark and of text size, marks what has
// the focus, and breaks what is long instead of making a phone scroll sideways.
const style = `
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--paper:#fff;--card:#f4f6f8;--line:#d0d7de;--mark:#0b5a8a;--warn:#8a4b00}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4af;--paper:#14181d;--card:#1d232a;--line:#39424d;--mark:#7cc4f5;--warn:#f0b35b}}
*{box-sizing:border-box}
body{font:1rem/1.55 system-ui,sans-serif;max-width:46rem;margin:0 auto;padding:1.5rem 1rem 4rem;color:var(--ink);background:var(--paper);overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25;margin:.2rem 0 .5rem}
h2{font-size:1.25rem;margin:2.5rem 0 .5rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.8rem 0 .3rem}
p{margin:.5rem 0}
a{color:var(--mark)}
a:focus-visible{outline:3px solid var(--mark);outline-offset:2px;border-radius:.2rem}
.soft{color:var(--soft)}
.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1rem;margin:1rem 0}
.card h2{margin:0 0 .5rem;border:0;padding:0}
.warn{border-left:.5rem solid var(--warn)}
dl{margin:0;display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1rem}
dt{color:var(--soft)}
dd{margin:0}
@media (max-width:30rem){dl{grid-template-columns:1fr;gap:0}dd{margin:0 0 .5rem}}
code{font:.95em ui-monospace,monospace;background:var(--card);border:1px solid var(--line);border-radius:.25rem;padding:.05em .3em}
.card code{background:var(--paper)}
pre{margin:.5rem 0;padding:.6rem .8rem;background:var(--card);border:1px solid var(--line);border-radius:.4rem;white-space:pre-wrap}
pre code{border:0;padding:0}
ol{margin:.4rem 0;padding-left:1.6rem}
li{margin:.35rem 0}
nav ul{list-style:none;padding:0;margin:0}
nav ul ul{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;margin:0 0 .6rem}
nav li{margin:0}
nav a{display:inline-block;padding:.3rem 0}
.button{display:inline-block;padding:.55rem 1rem;border:2px solid var(--mark);border-radius:.4rem;font-weight:600;text-decoration:none}
svg{display:block;width:12rem;max-width:100%;height:auto;margin:.8rem 0}
.skip{position:absolute;left:-99rem}
.skip:focus{position:static}
`

// Policy is the Content-Security-Policy of the page: its one style, nothing else, from nowhere.
var Policy = func() string {
	h := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(h[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

const shell = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{{.Title}}</title>
<style>` + style + `</style>
</head>
<body>
`

var page = template.Must(template.New("page").Funcs(template.FuncMap{"spans": spans}).Parse(`
{{define "said"}}{{range spans .}}{{if eq .Kind 96}}<code>{{.Text}}</code>{{else if eq .Kind 42}}<b>{{.Text}}</b>{{else}}{{.Text}}{{end}}{{end}}{{end -}}

{{define "guide"}}<section aria-labelledby="{{.ID}}">
<h3 id="{{.ID}}">{{.Name}}</h3>
<p class="soft">For {{.For}}.</p>
{{with .Steps}}<ol>{{range .}}
<li>{{template "said" .}}</li>{{end}}
</ol>
{{end}}{{range .Shell}}<pre><code>{{.}}</code></pre>
{{end}}{{range .Notes}}<p>{{template "said" .}}</p>
{{end}}{{if .Link}}<p><a class="button" href="{{.Link}}">{{.LinkText}}</a></p>
{{end}}{{with .QR}}<svg viewBox="0 0 {{.Size}} {{.Size}}" role="img" aria-label="QR code of the DAVx5 link above"><rect width="{{.Size}}" height="{{.Size}}" fill="#fff"/><path d="{{.Path}}" fill="#000" shape-rendering="crispEdges"/></svg>
{{end}}<p class="soft">{{.Verdict}}</p>
</section>
{{end}}` + shell + `<a class="skip" href="#main">To the steps</a>
<header>
<p class="soft">Holdfast on {{.Host}}</p>
<h1>Connect a device</h1>
<p>Contacts, calendars, to-dos and files, on phones and computers, with the programs they already have. There is nothing to install on most of them.</p>
</header>
{{if not .Secure}}<div class="card warn" role="note"><p><b>This address begins with http:, not https:.</b> Passwords would cross the network for everybody to read, and most phones refuse it. Go on only if this is a try on one machine.</p></div>
{{end}}<section class="card" aria-labelledby="what">
<h2 id="what">What every program asks for</h2>
<dl>
<dt>Address</dt><dd><code>{{.Address}}</code> (some want only <code>{{.Host}}</code>)</dd>
<dt>For files</dt><dd><code>{{.Files}}</code></dd>
<dt>Name</dt><dd>{{if .Name}}<code>{{.Name}}</code>{{else}}the name of your account; below it is <code>NAME</code>{{end}}</dd>
<dt>Password</dt><dd>an app password, one for each device, so that a lost one can be shut out by itself. Who runs this server makes it: <code>holdfast device add {{.AccountName}} phone</code></dd>
</dl>
{{if .Name}}<p class="soft">Filled in for the account {{.Name}}. This browser remembers the password until it is closed: on a computer that is not yours close it when you are done.</p>
{{else}}<p><a class="button" href="{{.AccountPath}}">Fill in for my account</a></p>
<p class="soft">It asks for name and password, then shows this page with your name in it, and offers a configuration profile for iPhone, iPad and Mac.</p>
{{end}}</section>
<nav aria-label="Devices and programs">
<ul>{{range .Groups}}
<li>{{.Name}}<ul>{{range .Guides}}<li><a href="#{{.ID}}">{{.Name}}</a></li>{{end}}</ul></li>{{end}}
</ul>
</nav>
<main id="main">
{{range .Groups}}<h2>{{.Name}}</h2>
{{range .Guides}}{{template "guide" .}}{{end}}{{end}}</main>
<footer class="soft"><h2>If it does not work</h2>
<p>The server says "wait" (503) while it compares or repairs its copies; devices keep everything and try again by themselves. <a href="/">What state it is in now</a>.</p>
<p>Who runs the server can ask it to do what a device does, and to say what is wrong: <code>holdfast client-setup {{.AccountName}} --check</code></p>
</footer>
</body>
</html>
`))

var wait = template.Must(template.New("wait").Parse(shell + `<main>
<p class="soft">Holdfast on {{.Host}}</p>
<h1>Please wait</h1>
<div class="card warn"><p>Nothing can be connected at the moment: the server compares or repairs its copies. Nothing is lost. Devices that are connected keep everything they have.</p>
<p>Try again in a few minutes. <a href="/">What state it is in now</a>.</p></div>
</main>
</body>
</html>
`))

type shownGuide struct {
	Guide
	Link     template.URL
	LinkText string
	QR       *shownQR
}

type shownQR struct {
	Path string
	Size int
}

type shownGroup struct {
	Name   string
	Guides []shownGuide
}

type shown struct {
	Facts
	Groups []shownGroup
}

func (s shown) Title() string       { return "Holdfast: connect a device" }
func (s shown) AccountName() string { return s.account() }
func (s shown) AccountPath() string { return AccountPath }

// Page returns the page with the facts in it.
func Page(f Facts) ([]byte, error) {
	s := shown{Facts: f}
	for _, g := range guides {
		show := shownGuide{Guide: g.Filled(f)}
		switch {
		case g.ID == "profile" && f.Name != "":
			show.Link, show.LinkText = ProfilePath, "Download the profile"
		case g.ID == "davx5":
			// DAVx5 makes it of a parsed host and an escaped name: html/template need not doubt the scheme.
			show.Link, show.LinkText = template.URL(f.DAVx5()), "Open in DAVx⁵"
			path, size, err := QRPath(f.DAVx5())
			if err != nil {
				return nil, err
			}
			show.QR = &shownQR{path, size}
		}
		if n := len(s.Groups); n == 0 || s.Groups[n-1].Name != g.Group {
			s.Groups = append(s.Groups, shownGroup{Name: g.Group})
		}
		last := &s.Groups[len(s.Groups)-1]
		last.Guides = append(last.Guides, show)
	}
	return render(page, s)
}

// WaitPage is shown instead while nothing can be said.
func WaitPage(f Facts) ([]byte, error) { return render(wait, shown{Facts: f}) }

func render(t *template.Template, s shown) ([]byte, error) {
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return nil, fmt.Errorf("show the set-up page: %w", err)
	}
	return b.Bytes(), nil
}
