// SPDX-License-Identifier: MIT
//
// A Rust program without frame pointers: recursion, sorting by a closure, maps, formatting, panics that are caught. Prints
// "ready", and runs until it is killed.

use std::collections::HashMap;

#[inline(never)]
fn deep(n: u64) -> u64 {
    let pad = [n; 16];
    if n == 0 {
        (0..20000u64).fold(1, |x, i| std::hint::black_box(x * 31 % 1000003 + i))
    } else {
        deep(n - 1) + std::hint::black_box(pad)[(n % 16) as usize]
    }
}

#[inline(never)]
fn sorted(seed: u64) -> u64 {
    let mut v: Vec<String> = (0..2000u64).map(|i| format!("{}", (i * 7919 + seed) % 2003)).collect();
    v.sort_by(|a, b| b.cmp(a));
    v[0].len() as u64
}

#[inline(never)]
fn counted(seed: u64) -> u64 {
    let mut m = HashMap::new();
    for i in 0..5000u64 {
        *m.entry((i * seed) % 97).or_insert(0u64) += 1;
    }
    m.len() as u64
}

#[inline(never)]
fn unwound(n: u64) -> u64 {
    if n > 0 {
        return unwound(n - 1) + 1;
    }
    std::panic::resume_unwind(Box::new(7u64))
}

fn main() {
    println!("ready");
    let threads: Vec<_> = (0..2u64)
        .map(|t| {
            std::thread::spawn(move || {
                let mut x = t;
                loop {
                    x = x % 1000 + deep(20) + sorted(x) + counted(x % 50 + 1);
                    for _ in 0..10 {
                        x += std::panic::catch_unwind(|| unwound(10)).unwrap_or(1);
                    }
                }
            })
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
}
