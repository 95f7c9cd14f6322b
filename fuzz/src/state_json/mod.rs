// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A saved state as JSON, from anybody.
//!
//! It is restored into new managers of several kinds. Each refuses it, naming a field that is there,
//! or works with it; and each can be used afterwards.

mod mutate;
mod normal;
pub mod subject;

pub use mutate::mutate;

use normal::difference;
use serde_json::Value;
use subject::{Kind, Subject};
use vm_synic::Error;
use vm_synic::state::{STATE_VERSION, State};

/// Parses a state, and restores it wherever it may be restored.
pub fn run(data: &[u8]) {
    let Ok(state) = serde_json::from_slice::<State>(data) else {
        return;
    };
    check_cut(data);
    check_higher_version(&state);
    for kind in Kind::ALL {
        let subject = Subject::new(kind);
        match subject.manager.restore(&state) {
            Ok(()) => check_taken(kind, &subject, &state),
            Err(error) => check_refused(&subject, &error, &state),
        }
        subject.use_it();
        subject.check_alive();
    }
}

/// A text that is cut off is no state.
fn check_cut(data: &[u8]) {
    let text = data.trim_ascii();
    let somewhere = text.iter().map(|byte| usize::from(*byte)).sum::<usize>();
    for end in [text.len() - 1, text.len() / 2, somewhere % text.len()] {
        let cut = serde_json::from_slice::<State>(&text[..end]);
        assert!(cut.is_err(), "cut off at {end}");
    }
}

fn check_higher_version(state: &State) {
    let higher = State {
        version: state.version.max(STATE_VERSION).saturating_add(1),
        ..state.clone()
    };
    let refused = Subject::new(Kind::Plain).manager.restore(&higher);
    let by_version = matches!(&refused, Err(Error::State { field, .. }) if field == "version");
    assert!(by_version, "{refused:?}");
}

/// All that was taken is there; and what is saved is taken by another manager, which saves the same.
fn check_taken(kind: Kind, subject: &Subject, state: &State) {
    let saved = subject.manager.save().expect("paused");
    // A message that waits in a timer is left to KVM.
    if kind != Kind::Kvm || !has_undelivered(state) {
        assert_eq!(difference(&saved, state), None, "{kind:?}");
    }
    let text = serde_json::to_string(&saved).expect("a state has no maps");
    let parsed = serde_json::from_str::<State>(&text).expect("our own text");
    assert!(parsed == saved, "{kind:?}");
    let twin = Subject::new(kind);
    let restored = twin.manager.restore(&parsed);
    assert!(restored.is_ok(), "{kind:?}: {restored:?}");
    assert!(twin.manager.save().expect("paused") == saved, "{kind:?}");
    subject.check_children(state, &saved);
}

fn has_undelivered(state: &State) -> bool {
    let mut timers = state.vps.iter().flat_map(|vp| &vp.plain.timers);
    timers.any(|timer| timer.is_undelivered)
}

/// The field that is named is one of the state's, and nothing of the state was taken.
fn check_refused(subject: &Subject, error: &Error, state: &State) {
    let Error::State { field, reason } = error else {
        panic!("{error}");
    };
    assert!(!reason.is_empty(), "{error}");
    let state = serde_json::to_value(state).expect("a state has no maps");
    assert!(there(&state, field).is_some(), "{error}");
    subject.manager.pause();
    let left = subject.manager.save().expect("paused");
    assert!(left.guest_ports.is_empty() && left.guest_connections.is_empty());
    assert_eq!((left.guest_os_id, left.hypercall), (0, 0), "{error}");
    for vp in left.vps {
        let banks = [Some(vp.plain), vp.nested];
        for synic in banks.into_iter().flatten() {
            assert!(synic.queues.is_empty() && synic.held_events.is_empty());
            assert_eq!([synic.simp, synic.siefp, synic.sirbp], [0; 3], "{error}");
        }
    }
}

/// What stands at a path like `vps[0].plain.sints[2]`.
fn there<'a>(state: &'a Value, path: &str) -> Option<&'a Value> {
    let path = path.replace(['.', '['], "/").replace(']', "");
    state.pointer(&format!("/{path}"))
}
