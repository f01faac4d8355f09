// SPDX-License-Identifier: MIT
//
// The script of a report's page: tabs, order and filter of tables, the call tree, which is made from the
// tables of the flame graph as it is opened. Names reach the page through textContent only.
var fiberscope = (function () {
'use strict';
var shown = '', built = false;
function all(what, from) { return Array.prototype.slice.call((from || document).querySelectorAll(what)); }
function make(tag, cls, text, parent) {
    var e = document.createElement(tag);
    e.className = cls;
    e.textContent = text;
    parent.appendChild(e);
    return e;
}
function show(tab) {
    shown = tab;
    all('nav a').forEach(function (a) {
        a.classList.toggle('on', a.dataset.tab === tab);
        a.setAttribute('aria-selected', a.dataset.tab === tab);
    });
    all('main > section').forEach(function (s) { s.classList.toggle('on', s.id === 'r-' + tab); });
    if (tab === 'tree' && !built)
        tree();
    if (tab === 'flame')
        window.dispatchEvent(new Event('resize')); // it had no width while it was hidden
}
function sort(table, th) {
    var col = +th.dataset.col, name = th.classList.contains('n');
    var down = th.classList.contains('down') ? false : th.classList.contains('up') || !name;
    var rows = all('tbody tr', table), body = table.tBodies[0];
    rows.sort(function (a, b) {
        var x = a.cells[col], y = b.cells[col];
        var order = name ? x.textContent.localeCompare(y.textContent) : x.dataset.v - y.dataset.v;
        return down ? -order : order;
    });
    all('th', table).forEach(function (t) { t.classList.remove('up', 'down'); });
    th.classList.add(down ? 'down' : 'up');
    rows.forEach(function (r) { body.appendChild(r); });
}
function filter(input) {
    var wanted = input.value.toLowerCase();
    all('tbody tr', document.getElementById(input.dataset.filter)).forEach(function (r) {
        r.style.display = r.textContent.toLowerCase().indexOf(wanted) < 0 ? 'none' : '';
    });
}
function children(f, at) {
    var list = [], i = at + 1;
    for (; i < f.end[at]; i = f.end[i])
        list.push(i);
    return list.sort(function (a, b) { return f.total[b] - f.total[a]; });
}
function call(f, at, parent, depth) {
    var row = make('div', 'row', '', parent), below = null, kids = children(f, at);
    row.tabIndex = 0;
    row.setAttribute('role', 'treeitem');
    make('span', 'v', f.label(f.total[at]), row);
    make('span', 'q', (100 * f.total[at] / f.total[0]).toFixed(1) + '%', row);
    make('span', 'v dim', f.self[at] ? f.label(f.self[at]) : '', row);
    var name = make('span', 'name', '', row);
    name.style.paddingLeft = (12 + 16 * Math.min(depth, 40)) + 'px';
    var mark = make('span', 'k', kids.length ? '\u25b8' : '', name);
    name.appendChild(document.createTextNode(at ? f.names[f.symbol[at]].name : 'all'));
    function open(heaviest) {
        if (!kids.length)
            return;
        if (below && !heaviest) {
            below.remove();
            below = null;
        } else if (!below) {
            below = make('div', '', '', parent);
            parent.insertBefore(below, row.nextSibling);
            kids.forEach(function (k, i) {
                var o = call(f, k, below, depth + 1);
                if (heaviest && !i && f.total[k] > 0.5 * f.total[at])
                    o(true);
            });
        }
        mark.textContent = below ? '\u25be' : '\u25b8';
    }
    row.addEventListener('click', function (e) { open(e.altKey); });
    row.addEventListener('keydown', function (e) {
        if (e.key === 'Enter' || e.key === ' ' || (e.key === 'ArrowRight' && !below) ||
            (e.key === 'ArrowLeft' && below)) {
            open(e.altKey);
            e.preventDefault();
        } else if (e.key === 'ArrowDown' || e.key === 'ArrowUp') {
            var rows = all('#r-calls .row'), next = rows[rows.indexOf(row) + (e.key === 'ArrowUp' ? -1 : 1)];
            if (next)
                next.focus();
            e.preventDefault();
        }
    });
    return open;
}
function tree() {
    var svg = document.querySelector('#r-flame svg'), box = document.getElementById('r-calls');
    if (!svg || !svg.fiberscope)
        return;
    built = true;
    box.textContent = '';
    box.className = 'calls';
    call(svg.fiberscope, 0, box, 0)(true);
}
function follow() {
    var wanted = /(?:^|[#&])tab=(\w+)/.exec(location.hash);
    if (wanted && document.getElementById('r-' + wanted[1]))
        show(wanted[1]);
}
// The flame graph listens to the whole window: while it is not seen its keys are not its.
window.addEventListener('keydown', function (e) {
    var target = e.target, row = target.classList && target.classList.contains('row');
    if (shown !== 'flame' && !row && (target.tagName !== 'INPUT'))
        e.stopImmediatePropagation();
}, true);
return {
    start: function () {
        var first = document.querySelector('nav a');
        shown = first.dataset.tab;
        all('nav a').forEach(function (a) {
            a.addEventListener('click', function (e) {
                e.preventDefault();
                history.replaceState(null, '', '#tab=' + a.dataset.tab);
                show(a.dataset.tab);
            });
        });
        all('table.sortable').forEach(function (t) {
            all('th[data-col]', t).forEach(function (th) {
                th.addEventListener('click', function () { sort(t, th); });
            });
        });
        all('input[data-filter]').forEach(function (i) {
            i.addEventListener('input', function () { filter(i); });
        });
        window.addEventListener('hashchange', follow);
        follow();
    }
};
}());
