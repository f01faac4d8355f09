// SPDX-License-Identifier: MIT
//
// The flame graph's script. Each g.f carries x, w (in values), d (depth); everything shown is
// computed from these, so that zoom, search and orientation cannot disagree. Names reach the page
// through textContent only.
(function () {
'use strict';
var svg = document.documentElement, meta = document.getElementById('meta').dataset;
var total = +meta.total, rowHeight = +meta.row, depth = +meta.depth, factor = +meta.factor;
var pad = 12, top0 = 74, foot = 44;
var frames = [].slice.call(document.querySelectorAll('g.f')).map(function (g) {
    var d = g.dataset;
    return {g: g, rect: g.firstElementChild, text: g.lastElementChild, x: +d.x, w: +d.w, d: +d.d,
            self: +d.s, name: d.n, module: d.m};
});
var zoom = frames[0], query = '', upward = meta.up === '1', width = 1200, matched = 0, hover = null;
var details = document.getElementById('details'), found = document.getElementById('found');
var box = document.getElementById('query'), resetButton = document.getElementById('reset');

function percent(v, of) {
    var p = of ? 100 * v / of : 0;
    return (p >= 99.95 ? '100' : p >= 1 ? p.toFixed(2) : p.toPrecision(2)) + '%';
}
function value(v) {
    var u = meta.unit;
    v *= factor;
    if (u === 'nanoseconds') {
        return v >= 1e9 ? (v / 1e9).toFixed(2) + ' s' : v >= 1e6 ? (v / 1e6).toFixed(2) + ' ms' :
               v >= 1e3 ? (v / 1e3).toFixed(2) + ' us' : v + ' ns';
    }
    if (u === 'bytes') {
        return v >= 1 << 30 ? (v / (1 << 30)).toFixed(2) + ' GB' : v >= 1 << 20 ?
               (v / (1 << 20)).toFixed(2) + ' MB' : v >= 1024 ? (v / 1024).toFixed(2) + ' kB' : v + ' B';
    }
    return v.toLocaleString('en') + (u ? ' ' + u : '');
}
// An ellipsis where the name does not fit; the end of a path or template says less than its start.
function label(f, pixels) {
    var room = Math.floor((pixels - 7) / 6.65);
    return room < 3 ? '' : f.name.length <= room ? f.name : f.name.slice(0, room - 1) + '\u2026';
}
function draw() {
    var scale = (width - 2 * pad) / zoom.w, rows = depth + 1;
    var height = top0 + rows * rowHeight + foot;
    svg.setAttribute('width', width);
    svg.setAttribute('height', height);
    svg.setAttribute('viewBox', '0 0 ' + width + ' ' + height);
    frames.forEach(function (f) {
        var x0 = Math.max(f.x, zoom.x), x1 = Math.min(f.x + f.w, zoom.x + zoom.w);
        var w = (x1 - x0) * scale;
        if (w < 0.35 || x1 <= x0) {
            f.g.style.display = 'none';
            return;
        }
        f.g.style.display = '';
        var x = pad + (x0 - zoom.x) * scale;
        var y = top0 + (upward ? depth - f.d : f.d) * rowHeight;
        f.rect.setAttribute('x', x.toFixed(2));
        f.rect.setAttribute('width', Math.max(w - 0.6, 0.3).toFixed(2));
        f.rect.setAttribute('y', y);
        f.text.setAttribute('x', (x + 4).toFixed(2));
        f.text.setAttribute('y', y + rowHeight - 5.5);
        f.text.textContent = label(f, w);
        f.g.classList.toggle('above', f.d < zoom.d);
    });
    resetButton.classList.toggle('on', zoom !== frames[0]);
    place();
}
function place() {
    [].forEach.call(document.querySelectorAll('[data-right]'), function (e) {
        e.setAttribute('transform', 'translate(' + (width - +e.dataset.right) + ',0)');
    });
    var bottom = svg.getAttribute('height');
    details.setAttribute('y', bottom - 24);
    found.setAttribute('y', bottom - 24);
    found.setAttribute('x', width - pad);
}
function state() { // a view can be pasted into a bug report
    var parts = [];
    if (query)
        parts.push('search=' + encodeURIComponent(query));
    if (zoom !== frames[0])
        parts.push('zoom=' + frames.indexOf(zoom));
    if (upward !== (meta.up === '1'))
        parts.push('flip=1');
    try {
        history.replaceState(null, '', '#' + parts.join('&'));
    } catch (e) { /* a page inside another may not */ }
}
function search(text) {
    var re = null, end = -1;
    query = text;
    matched = 0;
    if (text) {
        try {
            re = new RegExp(text, 'i');
        } catch (e) {
            re = new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'i');
        }
    }
    frames.forEach(function (f) {
        f.hit = !!re && f.d > 0 && re.test(f.name);
        f.g.classList.toggle('hit', f.hit);
    });
    // Share: what lies under any match, counted once. Frames come parents first, left to right.
    frames.filter(function (f) { return f.hit; }).sort(function (a, b) {
        return a.x - b.x || b.w - a.w;
    }).forEach(function (f) {
        if (f.x >= end) {
            matched += f.w;
            end = f.x + f.w;
        }
    });
    svg.classList.toggle('searching', !!re);
    found.textContent = re ? 'Matched: ' + percent(matched, total) + ' (' + value(matched) + ')' : '';
    box.textContent = !text ? '/ search' : '/' + (text.length > 12 ? text.slice(0, 11) + '\u2026' : text);
    box.classList.toggle('on', !!text);
}
function show(f) {
    hover = f;
    details.textContent = f ? f.name + (f.module ? '  \u2014  ' + f.module : '') + '  \u2014  ' +
        value(f.w) + ', ' + percent(f.w, total) + ' of all' +
        (zoom !== frames[0] ? ', ' + percent(f.w, zoom.w) + ' of this view' : '') +
        (f.self ? '; self ' + value(f.self) : '') : meta.hint;
}
function zoomTo(f) {
    zoom = f;
    draw();
    state();
}
function flip() {
    upward = !upward;
    draw();
    state();
}
function ask() {
    var text = window.prompt('Search (regular expression, case does not matter)', query);
    if (text !== null) {
        search(text);
        state();
    }
}
function restore() {
    var wanted = {};
    location.hash.slice(1).split('&').forEach(function (p) {
        var i = p.indexOf('=');
        if (i > 0) {
            try {
                wanted[p.slice(0, i)] = decodeURIComponent(p.slice(i + 1));
            } catch (e) { /* not ours */ }
        }
    });
    upward = (meta.up === '1') !== (wanted.flip === '1');
    zoom = frames[+wanted.zoom || 0] || frames[0];
    search(wanted.search || '');
    draw();
}
frames.forEach(function (f) {
    f.g.addEventListener('mouseenter', function () { show(f); });
    f.g.addEventListener('mouseleave', function () { show(null); });
    f.g.addEventListener('click', function () { zoomTo(f); });
});
resetButton.addEventListener('click', function () { zoomTo(frames[0]); });
box.addEventListener('click', ask);
document.getElementById('flip').addEventListener('click', flip);
window.addEventListener('keydown', function (e) {
    if (e.key === '/' || e.key === 'F3' || ((e.ctrlKey || e.metaKey) && e.key === 'f')) {
        e.preventDefault();
        ask();
    } else if (e.key === 'Escape') {
        search('');
        zoomTo(frames[0]);
    } else if (e.key === 'i' && !e.ctrlKey && !e.metaKey) {
        flip();
    } else if ((e.key === 'u' || e.key === 'Backspace') && zoom !== frames[0]) {
        var up = frames.filter(function (f) {
            return f.d === zoom.d - 1 && f.x <= zoom.x && f.x + f.w >= zoom.x + zoom.w;
        })[0];
        zoomTo(up || frames[0]);
    }
});
function resize() {
    var w = svg.parentNode === document ? window.innerWidth : svg.parentNode.clientWidth;
    width = Math.max(w || 1200, 480);
    draw();
}
window.addEventListener('resize', resize);
window.addEventListener('hashchange', restore);
restore();
resize();
show(null);
}());
