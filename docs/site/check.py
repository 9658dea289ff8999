#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads the site as a browser would: check.py SITE NABLUA.  Every link leads to a page and a place on it, every page has a
title and a way on, nothing comes from elsewhere, and each name of the registry has a page that the search knows."""
import html.parser
import json
import os
import subprocess
import sys
import urllib.parse

SITE, NABLUA = sys.argv[1:]
NAMES = "for _, e in ipairs(require('nablua.registry').all()) do if e.kind ~= 'topic' then print(e.name) end end"


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.ids, self.title, self.inside, self.onward = [], [], set(), "", None, False
        self.article = 0
        with open(path, encoding="utf-8") as f:
            self.feed(f.read())

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        if a.get("id"):
            self.ids.add(a["id"])
        if tag == "article":
            self.article += 1
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
            self.onward = self.onward or (self.article > 0 and not a["href"].startswith("#"))
        if tag in ("img", "script", "source", "iframe") and a.get("src"):
            self.loads.append(a["src"])
        if tag == "link" and a.get("rel") != "canonical" and a.get("href"):
            self.loads.append(a["href"])
        self.inside = tag

    def handle_endtag(self, tag):
        if tag == "article":
            self.article -= 1
        self.inside = None

    def handle_data(self, data):
        if self.inside == "title":
            self.title += data


def offences():
    pages = {}
    for folder, _, files in os.walk(SITE):
        for name in files:
            if name.endswith(".html"):
                path = os.path.join(folder, name)
                pages[os.path.relpath(path, SITE)] = Page(path)
    for path, page in sorted(pages.items()):
        if path == "404.html":
            continue
        if not page.title.strip():
            yield "%s has no title" % path
        if not page.onward:
            yield "%s leads nowhere" % path
        for target in page.loads + page.links:
            url = urllib.parse.urlparse(target)
            if url.scheme or url.netloc:
                if target in page.loads and url.scheme != "data":
                    yield "%s loads %s from elsewhere" % (path, target)
                continue
            place = os.path.normpath(os.path.join(os.path.dirname(path), urllib.parse.unquote(url.path))) if url.path else path
            if os.path.isdir(os.path.join(SITE, place)):
                place = os.path.normpath(os.path.join(place, "index.html"))
            if not os.path.exists(os.path.join(SITE, place)):
                yield "%s: %s is not there" % (path, target)
            elif url.fragment and place in pages and urllib.parse.unquote(url.fragment) not in pages[place].ids and url.fragment != "__skip":
                yield "%s: there is no place %s" % (path, target)
    with open(os.path.join(SITE, "search/search_index.json"), encoding="utf-8") as f:
        index = {d["title"] for d in json.load(f)["docs"]}
    names = subprocess.run([NABLUA, "-e", NAMES], capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        page = "reference/%s.html" % "".join(c if c.isalnum() or c in "._" else "-" for c in name)
        if page not in pages:
            yield "%s has no page" % name
        if name not in index:
            yield "the search does not know %s" % name
    print("docs: %d pages, %d names, %d links" % (len(pages), len(names), sum(len(p.links) for p in pages.values())), file=sys.stderr)


found = list(offences())
print("\n".join(found[:50]), end="\n" if found else "")
sys.exit(1 if found else 0)
