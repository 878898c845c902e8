package server

import (
	"bytes"
	"html/template"
	"slices"

	"holdfast/internal/fence"
)

// headline says in a few words what the page's reader wants to know first.
func headline(p PublicStatus) string {
	switch {
	case p.Waiting:
		return "Some accounts have to wait"
	case p.Fewer:
		return "A copy is missing"
	case p.Well:
		return "All is well"
	case p.State == fence.Open.String() && p.damaged && complete(p.Mirrors):
		return "Served, but something is damaged"
	case p.State == fence.Open.String():
		return "Served, but a copy is missing or slow"
	case p.State == fence.Held.String():
		return "Reading works, writing has to wait"
	}
	return "Please wait: nothing is served at the moment"
}

func complete(mirrors []PublicMirror) bool {
	return !slices.ContainsFunc(mirrors, func(m PublicMirror) bool { return m.State != "complete" })
}

// front is the page at /. It needs no script, no font and no picture, says in words what it shows in
// colour, and follows the reader's choice of light or dark and of text size.
var front = template.Must(template.New("front").Funcs(template.FuncMap{"headline": headline}).Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Holdfast: {{.State}}</title>
<style>
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--paper:#fff;--line:#d0d7de;--open:#116149;--held:#8a4b00;--closed:#a40e26}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4af;--paper:#14181d;--line:#39424d;--open:#56d4a8;--held:#f0b35b;--closed:#ff8f8f}}
body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:0 auto;padding:1.5rem 1rem 3rem;color:var(--ink);background:var(--paper);overflow-wrap:anywhere}
h1{font-size:1.1rem;margin:0;color:var(--soft)}
h2{font-size:1.1rem;margin:2rem 0 .5rem}
.state{margin:1rem 0 0;padding:1rem;border:1px solid var(--line);border-left:.5rem solid var(--mark);border-radius:.4rem}
.state p{margin:.4rem 0 0}
.state .head{margin:0;font-size:1.5rem;line-height:1.25;font-weight:600;color:var(--mark)}
.open{--mark:var(--open)}.held{--mark:var(--held)}.closed{--mark:var(--closed)}
.soft{color:var(--soft)}
.bad{color:var(--closed)}
ol{list-style:none;margin:0;padding:0}
li{padding:.4rem 0;border-bottom:1px solid var(--line)}
time{white-space:nowrap}
li time{display:block;color:var(--soft)}
footer{margin-top:2rem}
a{color:inherit}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.5rem .75rem .5rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600}
td:last-child,th:last-child{padding-right:0}
code{font-size:.95em}
</style>
</head>
<body>
<main>
<h1>Holdfast</h1>
<p class="soft">A personal data cloud for contacts, calendars, to-dos, photos and files, which does not lose what it has acknowledged.</p>
<section class="state {{if eq .State "closed"}}closed{{else if .Well}}open{{else}}held{{end}}" aria-labelledby="head">
<h2 class="head" id="head">{{headline .}}</h2>
<p>{{.Means}}</p>
<p class="soft">Fence: {{.State}} since <time datetime="{{.Since.Format "2006-01-02T15:04:05Z"}}">{{.Since.Format "2006-01-02 15:04:05 UTC"}}</time>.</p>
</section>

<section aria-labelledby="copies">
<h2 id="copies">Copies</h2>
<p>{{if eq .Changes 1}}1 change is{{else}}{{.Changes}} changes are{{end}} kept. {{.Copies}} of {{.Required}} copies have everything now.</p>
<table>
<thead><tr><th scope="col">Copy</th><th scope="col">State</th></tr></thead>
<tbody>
<tr><td>the store of this server</td><td>{{if eq .State "closed"}}<b class="bad">being checked</b>{{else}}served{{end}}</td></tr>{{range .Mirrors}}
<tr><td>mirror {{.Name}}</td><td>{{if eq .State "complete"}}complete{{else}}<b class="bad">{{.State}}</b>{{end}}</td></tr>{{end}}
</tbody>
</table>
</section>

{{if .Events}}<section aria-labelledby="events">
<h2 id="events">What happened</h2>
<p class="soft">The newest first, since this server was started.</p>
<ol>{{range .Events}}
<li><time datetime="{{.At.Format "2006-01-02T15:04:05Z"}}">{{.At.Format "2006-01-02 15:04:05 UTC"}}</time> {{.What}}</li>{{end}}
</ol>
</section>
{{end}}
<section aria-labelledby="connect">
<h2 id="connect">Connect a device</h2>
<p><a href="setup">How each phone, computer and program is connected</a>, step by step.</p>
</section>
</main>
<footer class="soft">For programs: <a href="status.json">status.json</a></footer>
</body>
</html>
`))

func page(p PublicStatus) []byte {
	var b bytes.Buffer
	if err := front.Execute(&b, p); err != nil {
		return []byte("Holdfast: " + p.State + "\n")
	}
	return b.Bytes()
}
