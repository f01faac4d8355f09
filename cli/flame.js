// SPDX-License-Identifier: MIT
//
// The flame graph's script. It replaces the static picture by one that it draws from the file's own
// tables: `names` (a line per function: name, module, colours, inlined) and `frames` (a line per
// frame, parents first: how many levels up, which name, own value). In a differential graph a frame
// has two own values, base and now, and is as wide as the larger; a third is a width beyond both.
//
// Invariant: only what is wide enough to see is in the page, neighbours that are not stand as one
// muted box; so the page's cost follows the window, not the profile. Names reach the page through
// textContent only.
(function () {
'use strict';
var NS = 'http://www.w3.org/2000/svg', XHTML = 'http://www.w3.org/1999/xhtml';
var svg = document.currentScript.ownerSVGElement || document.documentElement;
function id(name) { return svg.getElementById(name); }
var meta = id('meta').dataset, rowHeight = +meta.row, factor = +meta.factor, pad = 12;
var diff = meta.diff === '1', legend = id('legend');
var NARROW = 2; // pixels; narrower frames are merged
var names = id('names').textContent.split('\n').map(function (line) {
    var p = line.split('\t');
    return {name: p[0] + (p[3] ? ' (inline)' : ''), module: p[1], colour: p[2], hit: false};
});
var lines = id('frames').textContent.split('\n'), n = lines.length;
var depth = new Int32Array(n), sym = new Int32Array(n), parent = new Int32Array(n);
var end = new Int32Array(n), hits = new Int32Array(n + 1);
var self = new Float64Array(n), w = new Float64Array(n), x = new Float64Array(n);
var was = [new Float64Array(diff ? n : 0), new Float64Array(diff ? n : 0)]; // base: self, total
var now = [new Float64Array(diff ? n : 0), new Float64Array(diff ? n : 0)];
var deepest = 0, zoom, all, query = '', upward = meta.up === '1', width = 1200, top0 = 64;
var boxes = [], rects = [], texts = [], parts = [], selected = null;
var layer = id('layer'), found = id('found'), reset = id('reset'), head = id('head');

function read() {
    var i, cursor = new Float64Array(n), at = -1;
    for (i = 0; i < n; i++) {
        var p = lines[i].split(' '), up = +p[0];
        while (up-- > 0)
            at = parent[at];
        parent[i] = at;
        depth[i] = at < 0 ? 0 : depth[at] + 1;
        sym[i] = +p[1];
        self[i] = +p[2] || 0;
        if (diff) {
            was[0][i] = was[1][i] = self[i];
            now[0][i] = now[1][i] = +p[3] || 0;
            self[i] = +p[4] || Math.max(self[i], now[0][i]);
        }
        w[i] = self[i];
        end[i] = i + 1;
        deepest = Math.max(deepest, depth[i]);
        at = i;
    }
    for (i = n - 1; i > 0; i--) {
        w[parent[i]] += w[i];
        if (diff) {
            was[1][parent[i]] += was[1][i];
            now[1][parent[i]] += now[1][i];
        }
        end[parent[i]] = Math.max(end[parent[i]], end[i]);
    }
    for (i = 1; i < n; i++) {
        x[i] = cursor[parent[i]];
        cursor[i] = x[i];
        cursor[parent[i]] += w[i];
    }
    lines = null;
    all = zoom = box(0, 1);
}
// Neighbours [first, last) in the order of the file; one frame, or several that stand as one box.
function box(first, last) {
    var b = {first: first, d: depth[first], x: x[first], w: 0, many: 0, was: 0, now: 0};
    for (var i = first; i < last; i = end[i]) {
        b.w += w[i];
        b.was += diff ? was[1][i] : 0;
        b.now += diff ? now[1][i] : 0;
        b.many++;
        b.last = end[i];
    }
    return b;
}
function percent(v, of) {
    var p = of ? 100 * v / of : 0;
    return (p >= 99.95 ? '100' : p >= 1 ? p.toFixed(2) : p ? p.toPrecision(2) : '0') + '%';
}
function value(v) {
    var u = meta.unit, steps = {
        nanoseconds: [[1e9, 's'], [1e6, 'ms'], [1e3, '\u00b5s'], [0, 'ns']],
        bytes: [[1073741824, 'GB'], [1048576, 'MB'], [1024, 'kB'], [0, 'B']]
    }[u];
    v *= factor;
    if (!steps)
        return v.toLocaleString('en') + (u ? ' ' + u : '');
    var s = steps.filter(function (s) { return v >= s[0]; })[0] || steps[3];
    return (s[0] ? (v / s[0]).toFixed(2) : v.toLocaleString('en')) + ' ' + s[1];
}
function signed(v) {
    return (v < 0 ? '\u2212' : '+') + value(Math.abs(v));
}
// "1.20 s -> 1.80 s: +0.60 s, +50%" with the shares of each profile in all of it.
function compared(a, b, shares) {
    function share(v, of) {
        return shares ? ' (' + percent(v, of) + ')' : '';
    }
    var p = a ? 100 * Math.abs(b - a) / a : 0;
    var by = a ? ', ' + (b < a ? '\u2212' : '+') + p.toFixed(p < 10 ? 1 : 0) + '%' : '';
    return (shares ? 'base ' : '') + value(a) + share(a, was[1][0]) + ' \u2192 ' + (shares ? 'new ' : '') + value(b) + share(b, now[1][0]) +
        (a === b ? ', the same' : ': ' + signed(b - a) + by);
}
function change(a, b) { // the step of flame_diff.c
    if (a === b || !a || !b)
        return a === b ? 4 : b ? 8 : 0;
    for (var i = 0, ends = [1 / 2, 1 / 1.25, 1 / 1.05]; i < 3; i++) {
        if (b <= a * ends[i] || a <= b * ends[i])
            return b < a ? 1 + i : 7 - i;
    }
    return 4;
}
function label(b) {
    return b.many > 1 ? '\u2026' : names[sym[b.first]].name;
}
function cut(text, room) {
    return text.length <= room ? text : room < 3 ? '' : text.slice(0, room - 1) + '\u2026';
}
function make(name, attributes, inside) {
    var e = document.createElementNS(NS, name);
    for (var a in attributes)
        e.setAttribute(a, attributes[a]);
    return inside ? inside.appendChild(e) : e;
}
// What the window shows of the tree, in O(what it shows): too narrow and outside is skipped whole.
function choose(scale) {
    boxes = [];
    for (var i = 0; i < n;) {
        if (x[i] + w[i] <= zoom.x || x[i] >= zoom.x + zoom.w || !w[i]) {
            i = end[i];
            continue;
        }
        var last = i;
        while (last < n && parent[last] === parent[i] && w[last] * scale < NARROW &&
               x[last] < zoom.x + zoom.w)
            last = end[last];
        var b = box(i, last > i ? last : i + 1);
        if (b.w * scale >= 0.4)
            boxes.push(b);
        i = last > i ? last : i + 1;
    }
}
function draw() {
    var scale = (width - 2 * pad) / zoom.w, height, texted = 0, hatched = 0;
    choose(scale);
    selected = selected && boxes.filter(function (b) { // the boxes are new ones
        return b.first === selected.first && b.last === selected.last;
    })[0] || null;
    deepest = boxes.reduce(function (d, b) { return Math.max(d, b.d); }, 0);
    height = top0 + 8 + (deepest + 1) * rowHeight + pad;
    height = Math.max(height, svg.parentNode === document ? window.innerHeight : 0);
    svg.setAttribute('width', width);
    svg.setAttribute('height', height);
    svg.setAttribute('viewBox', '0 0 ' + width + ' ' + height);
    boxes.forEach(function (b, k) {
        var x0 = Math.max(b.x, zoom.x), x1 = Math.min(b.x + b.w, zoom.x + zoom.w);
        var px = pad + (x0 - zoom.x) * scale, pw = (x1 - x0) * scale;
        var row = upward ? deepest - b.d : b.d, y = top0 + 8 + row * rowHeight;
        var hit = query && hits[b.last] > hits[b.first] && (b.many > 1 || names[sym[b.first]].hit);
        var s = names[sym[b.first]], r = rects[k] || (rects[k] = make('rect', {rx: 2}, layer.firstChild));
        r.setAttribute('x', px.toFixed(2));
        r.setAttribute('y', y);
        r.setAttribute('width', Math.max(pw - (pw > 3 ? 1 : 0.3), 0.4).toFixed(2));
        r.setAttribute('height', rowHeight - 1);
        r.setAttribute('class', (diff ? 'd' + change(b.was, b.now) :
                       b.many > 1 || !sym[b.first] ? 'm' : s.colour) + (hit ? ' hit' : '') +
                       (b.d < zoom.d ? ' above' : '') + (b === selected ? ' sel' : ''));
        r.style.display = '';
        r.box = b;
        b.px = px;
        b.py = y;
        b.pw = pw;
        var gone = diff && b.many === 1 && b.now ? self[b.first] - now[0][b.first] : 0;
        var from = Math.max(b.x + b.w - gone, zoom.x);
        if (gone && sym[b.first] && (x1 - from) * scale > 1) { // what its own lost: the right end
            var g = parts[hatched] || (parts[hatched] = make('rect', {}, layer.childNodes[1]));
            hatched++;
            g.setAttribute('x', (pad + (from - zoom.x) * scale).toFixed(2));
            g.setAttribute('y', y);
            g.setAttribute('width', Math.max((x1 - from) * scale - 1, 0.4).toFixed(2));
            g.setAttribute('height', rowHeight - 1);
            g.setAttribute('class', 'd0 part' + (b.d < zoom.d ? ' above' : ''));
            g.style.display = '';
        }
        var name = cut(label(b), Math.floor((pw - 8) / 6.63));
        if (!name && b.many > 1 && pw > 12)
            name = '\u2026';
        if (name) {
            var t = texts[texted] || (texts[texted] = make('text', {}, layer.lastChild));
            texted++;
            t.setAttribute('x', (px + 5).toFixed(2));
            t.setAttribute('y', y + rowHeight - 5);
            t.setAttribute('class', (hit && b.many === 1 ? 'hit' : '') + (/ \(inline\)$/.test(s.name) ? ' in' : ''));
            t.textContent = name;
            t.style.display = '';
        }
    });
    rects.slice(boxes.length).forEach(function (r) { r.style.display = 'none'; });
    parts.slice(hatched).forEach(function (g) { g.style.display = 'none'; });
    texts.slice(texted).forEach(function (t) { t.style.display = 'none'; });
    reset.classList.toggle('off', zoom === all);
}

// --- Header and tooltip.
var foreign = make('foreignObject', {height: 26, width: 220}, head);
var input = document.createElementNS(XHTML, 'input');
input.setAttribute('placeholder', 'Search  /');
input.setAttribute('aria-label', 'Search, a regular expression');
input.setAttribute('spellcheck', 'false');
foreign.appendChild(input);
var tip = make('g', {'class': 'tip', visibility: 'hidden'}, svg);
var tipBox = make('rect', {rx: 6}, tip), tipLines = (diff ? [0, 1, 2, 3] : [0, 1, 2]).map(function (i) {
    return make('text', {x: 10, y: 20 + 18 * i, 'class': i ? '' : 'n'}, tip);
});
function fit(e, text, room) { // by its measured width: the font is whatever there is
    e.textContent = text;
    for (var m = text.length; m > 4 && e.getComputedTextLength() > room; m = Math.floor(m * 0.92))
        e.textContent = text.slice(0, m) + '\u2026';
}
function layout() {
    var narrow = width < 860, right = width - pad;
    var search = Math.min(220, width - 2 * pad - 150); // beside the buttons
    top0 = (narrow ? 100 : 64) + (diff ? 26 : 0);
    var y = narrow ? 66 : 12;
    foreign.setAttribute('x', right - search);
    foreign.setAttribute('y', y);
    foreign.setAttribute('width', search);
    id('flip').setAttribute('x', narrow ? pad + 82 : right - search - 80);
    reset.setAttribute('x', narrow ? pad : right - search - 162);
    id('flip').setAttribute('y', y + 17);
    reset.setAttribute('y', y + 17);
    found.setAttribute('x', right);
    found.setAttribute('y', 52);
    id('rule').setAttribute('y1', top0);
    id('rule').setAttribute('y2', top0);
    id('headbg').setAttribute('height', top0);
    if (diff) {
        legend.setAttribute('transform', 'translate(' + pad + ',' + (top0 - 26) + ')');
        id('hint').style.display = width < 820 ? 'none' : '';
    }
    var t = id('title'), s = id('subtitle');
    fit(t, meta.title, narrow ? width - 2 * pad : right - search - 190);
    fit(s, meta.subtitle, width - 3 * pad - found.getComputedTextLength());
    stick();
}
function stick() { // the header stays in view of tall graphs
    head.setAttribute('transform', 'translate(0,' + (svg.parentNode === document ? window.scrollY : 0) + ')');
}
function show(b, cx, cy) {
    tip.setAttribute('visibility', b ? 'visible' : 'hidden');
    if (!b)
        return;
    var s = names[sym[b.first]], max = Math.min(width - 2 * pad, 720) - 20, hidden = sym[b.first] === 0 && b.first;
    fit(tipLines[0], b.many > 1 ? b.many.toLocaleString('en') + ' narrow neighbours' : s.name, max);
    fit(tipLines[1], b.many > 1 ? 'click to see them' : hidden ? 'left out of the file (--min-percent)' :
        s.module || (b.first ? 'module unknown' : meta.subtitle), max);
    if (diff) {
        fit(tipLines[2], compared(b.was, b.now, true), max);
        fit(tipLines[3], b.many > 1 ? '' : !self[b.first] ? 'all of it in what it calls' :
            self[b.first] === b.w ? 'calls nothing' :
            'itself: ' + compared(was[0][b.first], now[0][b.first]), max);
    } else
        fit(tipLines[2], percent(b.w, w[0]) + ' of all, ' + value(b.w) +
        (zoom !== all && b.d >= zoom.d ? ', ' + percent(b.w, zoom.w) + ' of this view' : '') +
        (b.many === 1 && self[b.first] && self[b.first] < b.w ? ', self ' + value(self[b.first]) : ''), max);
    var wide = Math.max.apply(null, tipLines.map(function (t) { return t.getComputedTextLength(); })) + 20;
    tipBox.setAttribute('width', wide);
    tipBox.setAttribute('height', diff && b.many === 1 ? 84 : 66);
    var scroll = svg.parentNode === document ? window.scrollY : 0;
    var tx = Math.max(pad, Math.min(cx + 14, width - wide - pad));
    var ty = cy + 20 + 70 > scroll + window.innerHeight ? cy - 78 : cy + 20;
    tip.setAttribute('transform', 'translate(' + tx + ',' + ty + ')');
}

// --- Actions.
function state() { // a view can be pasted into a bug report
    var parts = [];
    if (query)
        parts.push('search=' + encodeURIComponent(query));
    if (zoom !== all)
        parts.push('zoom=' + zoom.first + (zoom.many > 1 ? '-' + zoom.last : ''));
    if (upward !== (meta.up === '1'))
        parts.push('flip=1');
    try {
        history.replaceState(null, '', '#' + parts.join('&'));
    } catch (e) { /* a page inside another may not */ }
}
function search(text) {
    var re = null, matched = 0, before = 0, after = 0, i;
    query = text;
    if (text) {
        try {
            re = new RegExp(text, 'i');
        } catch (e) {
            re = new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'i');
        }
    }
    names.forEach(function (s, k) { s.hit = !!re && k > 0 && re.test(s.name); });
    for (i = 0; i < n; i++)
        hits[i + 1] = hits[i] + (i && names[sym[i]].hit ? 1 : 0);
    for (i = 1; i < n;) { // what lies under any match, counted once
        var hit = names[sym[i]].hit;
        matched += hit ? w[i] : 0;
        before += hit && diff ? was[1][i] : 0;
        after += hit && diff ? now[1][i] : 0;
        i = hit ? end[i] : i + 1;
    }
    svg.classList.toggle('searching', !!re);
    found.classList.toggle('none', !hits[n]);
    found.textContent = !re ? '' : !hits[n] ? 'No match' : 'Matched: ' + (diff ? compared(before, after) : percent(matched, w[0])) +
        ' (' + (diff ? '' : value(matched) + ', ') + hits[n].toLocaleString('en') + (hits[n] > 1 ? ' frames)' : ' frame)');
    layout();
}
function zoomTo(b) {
    zoom = b.first === 0 ? all : b;
    selected = null;
    show(null);
    draw();
    state();
}
function flip() {
    upward = !upward;
    draw();
    state();
}
function move(key) {
    var s = selected || zoom, down = key === (upward ? 'ArrowUp' : 'ArrowDown');
    var side = key === 'ArrowLeft' ? -1 : key === 'ArrowRight' ? 1 : 0;
    var row = boxes.filter(function (b) { return b.d === s.d + (side ? 0 : down ? 1 : -1); });
    var at = row.findIndex(function (b) { return b.first === s.first; });
    var next = side ? row[at + side] : row.filter(function (b) {
        return down ? b.x >= s.x && b.x < s.x + s.w : b.x <= s.x && b.x + b.w > s.x;
    }).sort(function (a, b) { return b.w - a.w; })[0];
    selected = next || boxes.filter(function (b) { return b.first === s.first; })[0] || null;
    draw();
    if (selected) {
        rects[boxes.indexOf(selected)].scrollIntoView({block: 'nearest'});
        show(selected, selected.px, selected.py);
    }
}
function restore() {
    var wanted = {};
    location.hash.slice(1).split('&').forEach(function (p) {
        var i = p.indexOf('=');
        try {
            wanted[p.slice(0, i)] = decodeURIComponent(p.slice(i + 1));
        } catch (e) { /* not ours */ }
    });
    var z = /^(\d+)(?:-(\d+))?$/.exec(wanted.zoom || '');
    upward = (meta.up === '1') !== (wanted.flip === '1');
    zoom = z && +z[1] > 0 && +z[1] < n ? box(+z[1], Math.min(+z[2] || +z[1] + 1, n)) : all;
    input.value = wanted.search || '';
    search(input.value);
    draw();
}
function room() {
    return Math.max(svg.parentNode === document ? document.documentElement.clientWidth ||
                    window.innerWidth : svg.parentNode.clientWidth, 320);
}
function resize() {
    for (var again = 0; again < 2; again++) { // a scroll bar comes or goes with what is drawn
        width = room();
        layout();
        draw();
        if (room() === width)
            break;
    }
}
layer.addEventListener('mousemove', function (e) {
    var r = svg.getBoundingClientRect();
    show(e.target.box, e.clientX - r.left, e.clientY - r.top);
});
layer.addEventListener('mouseleave', function () { show(null); });
layer.addEventListener('click', function (e) {
    if (e.target.box)
        zoomTo(e.target.box);
});
reset.addEventListener('click', function () { zoomTo(all); });
id('flip').addEventListener('click', flip);
input.addEventListener('input', function () {
    search(input.value);
    draw();
    state();
});
window.addEventListener('keydown', function (e) {
    var typing = document.activeElement === input, plain = !e.ctrlKey && !e.metaKey && !e.altKey;
    if (e.key === 'F3' || (e.key === '/' && !typing) || (!plain && e.key === 'f')) {
        input.focus();
        input.select();
    } else if (e.key === 'Escape') {
        if (!typing && !query)
            zoomTo(all);
        input.value = '';
        input.blur();
        search('');
        draw();
        state();
    } else if (typing) {
        if (e.key === 'Enter')
            input.blur();
        return;
    } else if (/^Arrow/.test(e.key) && plain) {
        move(e.key);
    } else if (e.key === 'Enter') {
        if (document.activeElement === reset)
            zoomTo(all);
        else if (document.activeElement === id('flip'))
            flip();
        else if (selected)
            zoomTo(selected);
    } else if (e.key === 'i' && plain) {
        flip();
    } else if ((e.key === 'u' || e.key === 'Backspace') && plain && zoom !== all) {
        zoomTo(box(parent[zoom.first], parent[zoom.first] + 1));
    } else {
        return;
    }
    e.preventDefault();
});
read();
layer.textContent = '';
make('g', {}, layer); // boxes, what is hatched over them, names
make('g', {}, layer);
make('g', {}, layer);
window.addEventListener('resize', resize);
window.addEventListener('scroll', stick);
window.addEventListener('hashchange', restore);
restore();
resize();
// For a page around this picture: the tables, and how values are written.
svg.fiberscope = {names: names, symbol: sym, end: end, self: self, total: w, label: value};
}());
