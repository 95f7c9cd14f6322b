// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The manager's eventfds, for whatever loop the VMM has.
//!
//! epoll knows descriptions, not descriptors: an fd that is closed while watched may come back as
//! another one's number, or go on firing through a duplicate. So the loop's half, [`SynicEvents`],
//! owns every fd that it watches. Other threads only leave word ([`Watch`] does, when dropped) and
//! signal the one fd that is always watched; the loop then lets epoll forget an fd before it is
//! closed.
//!
//! A loop of the VMM's own does this:
//!
//! 1. at start, add every fd of [`SynicEvents::watched`] with its token, for reading;
//! 2. when a token fires, call [`SynicEvents::service`];
//! 3. as the [`Changes`] say, add fds and remove fds, in this order: remove first, drop later.
//!
//! With feature `event-manager` the subscriber does that.

use crate::error::Error;
use crate::sync::lock;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Names a watched fd to the loop: a slot, and how often it was used, so that an event that was
/// under way when its fd was removed is not taken for its successor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u32);

impl Token {
    /// For a loop that stores numbers.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// From what [`get`](Self::get) gave. A number that names nothing does no harm.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The fd by which other threads leave word; always watched.
    const WORD: Self = Self(0);

    fn new(slot: usize, generation: u8) -> Option<Self> {
        let slot = u32::try_from(slot).ok()?.checked_add(1)?;
        let shifted = slot.checked_mul(1 << 8)?;
        Some(Self(shifted | u32::from(generation)))
    }

    fn slot(self) -> Option<usize> {
        usize::try_from(self.0 >> 8).ok()?.checked_sub(1)
    }

    const fn generation(self) -> u8 {
        self.0 as u8
    }
}

/// What the loop must do after [`SynicEvents::service`].
#[derive(Debug, Default)]
#[must_use]
pub struct Changes {
    /// Watch these for reading.
    pub added: Vec<(RawFd, Token)>,
    /// Stop watching these, then drop them.
    pub removed: Vec<Unwatched>,
}

/// An fd that is no longer wanted; still open, so that the loop can name it to epoll.
#[derive(Debug)]
pub struct Unwatched {
    fd: Arc<EventFd>,
    token: Token,
}

impl Unwatched {
    /// The token it had.
    pub fn token(&self) -> Token {
        self.token
    }
}

impl AsRawFd for Unwatched {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// An eventfd that the VMM's loop watches until this is dropped.
pub struct Watch {
    id: u64,
    fd: Arc<EventFd>,
    list: Arc<WatchList>,
}

impl Watch {
    /// The eventfd, non-blocking; to be signalled, not to be read.
    pub fn fd(&self) -> &EventFd {
        &self.fd
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.list.leave_word(Word::Unwatch(self.id));
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({:?})", self.fd)
    }
}

pub(crate) type WatchSink = Box<dyn FnMut(u64) + Send>;

/// Word for the loop.
enum Word {
    Watch(Source),
    Unwatch(u64),
}

/// What is watched, and what for.
struct Source {
    id: u64,
    fd: Arc<EventFd>,
    sink: WatchSink,
}

/// The half that other threads see.
#[derive(Default)]
pub(crate) struct WatchList {
    words: Mutex<VecDeque<Word>>,
    /// Signalled with every word; made when the loop comes.
    bell: OnceLock<EventFd>,
    taken: AtomicBool,
    next_id: AtomicU64,
}

impl WatchList {
    pub fn watch(self: &Arc<Self>, sink: WatchSink) -> Result<Watch, Error> {
        let fd = Arc::new(new_eventfd()?);
        // Relaxed: the number need only be new.
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.leave_word(Word::Watch(Source {
            id,
            fd: fd.clone(),
            sink,
        }));
        Ok(Watch {
            id,
            fd,
            list: self.clone(),
        })
    }

    fn leave_word(&self, word: Word) {
        lock(&self.words).push_back(word);
        self.ring_bell();
    }

    /// Leaves what a loop watched to the next one, ahead of word that may end it.
    fn hand_on(&self, sources: impl Iterator<Item = Source>) {
        let mut words = lock(&self.words);
        sources.for_each(|source| words.push_front(Word::Watch(source)));
        drop(words);
        self.ring_bell();
    }

    fn ring_bell(&self) {
        // A bell that cannot count higher has been rung.
        if let Some(bell) = self.bell.get() {
            let _ = bell.write(1);
        }
    }

    fn bell(&self) -> Result<&EventFd, Error> {
        if let Some(bell) = self.bell.get() {
            return Ok(bell);
        }
        let bell = new_eventfd()?;
        // Words that were left before the bell was there are found by the first ring.
        let _ = bell.write(1);
        Ok(self.bell.get_or_init(|| bell))
    }
}

/// The half of the manager that belongs to the VMM's event loop, and owns every fd that it
/// watches.
pub struct SynicEvents {
    list: Arc<WatchList>,
    slots: Vec<Slot>,
    faults: Vec<Error>,
}

#[derive(Default)]
struct Slot {
    generation: u8,
    source: Option<Source>,
}

impl SynicEvents {
    pub(crate) fn new(list: &Arc<WatchList>) -> Result<Self, Error> {
        list.bell()?;
        if list.taken.swap(true, Ordering::AcqRel) {
            return Err(Error::EventsTaken);
        }
        Ok(Self {
            list: list.clone(),
            slots: Vec::new(),
            faults: Vec::new(),
        })
    }

    /// All fds to watch for reading, with their tokens.
    pub fn watched(&self) -> impl Iterator<Item = (RawFd, Token)> {
        let bell = self.list.bell.get();
        let bell = bell.map(|bell| (bell.as_raw_fd(), Token::WORD));
        let sources = self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let token = Token::new(index, slot.generation)?;
            Some((slot.source.as_ref()?.fd.as_raw_fd(), token))
        });
        bell.into_iter().chain(sources)
    }

    /// An fd is readable: acts on it. A token that names nothing any more is ignored.
    pub fn service(&mut self, token: Token) -> Changes {
        if token == Token::WORD {
            return self.hear();
        }
        let Some(source) = self.source(token) else {
            return Changes::default();
        };
        match source.fd.read() {
            Ok(count) => {
                (source.sink)(count);
                Changes::default()
            }
            // Somebody was faster, or the event was stale.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Changes::default(),
            Err(error) => self.fail(token, error),
        }
    }

    /// An fd has an error or hung up: it would fire for ever, so it is given up.
    pub fn fail(&mut self, token: Token, source: io::Error) -> Changes {
        self.faults.push(Error::Event {
            action: "read a watched eventfd",
            source,
        });
        Changes {
            added: Vec::new(),
            removed: self.release(token).into_iter().collect(),
        }
    }

    /// The loop could not add or remove an fd.
    pub fn report(&mut self, fault: Error) {
        log::error!("{fault}");
        self.faults.push(fault);
    }

    /// What went wrong since this was last asked.
    pub fn take_faults(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.faults)
    }

    /// Does what other threads left word of.
    fn hear(&mut self) -> Changes {
        if let Some(bell) = self.list.bell.get() {
            // Read before the words are: a word that comes later rings again.
            let _ = bell.read();
        }
        let words = std::mem::take(&mut *lock(&self.list.words));
        let mut changes = Changes::default();
        for word in words {
            match word {
                Word::Watch(source) => changes.added.extend(self.keep(source)),
                Word::Unwatch(id) => changes.unwatch(self.find(id).and_then(|t| self.release(t))),
            }
        }
        changes
    }

    fn keep(&mut self, source: Source) -> Option<(RawFd, Token)> {
        let free = self.slots.iter().position(|slot| slot.source.is_none());
        let index = free.unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = self.slots.get_mut(index)?;
        slot.generation = slot.generation.wrapping_add(1);
        let token = Token::new(index, slot.generation)?;
        let fd = source.fd.as_raw_fd();
        slot.source = Some(source);
        Some((fd, token))
    }

    fn find(&self, id: u64) -> Option<Token> {
        let is_it = |slot: &Slot| slot.source.as_ref().is_some_and(|source| source.id == id);
        let index = self.slots.iter().position(is_it)?;
        Token::new(index, self.slots.get(index)?.generation)
    }

    fn source(&mut self, token: Token) -> Option<&mut Source> {
        let slot = self.slots.get_mut(token.slot()?)?;
        slot.source
            .as_mut()
            .filter(|_| slot.generation == token.generation())
    }

    fn release(&mut self, token: Token) -> Option<Unwatched> {
        self.source(token)?;
        let slot = self.slots.get_mut(token.slot()?)?;
        let source = slot.source.take()?;
        Some(Unwatched {
            fd: source.fd,
            token,
        })
    }
}

impl Changes {
    /// An fd that was added by the same batch of words never reaches the loop.
    fn unwatch(&mut self, unwatched: Option<Unwatched>) {
        let Some(unwatched) = unwatched else {
            return;
        };
        let before = self.added.len();
        self.added.retain(|(_, token)| *token != unwatched.token);
        if self.added.len() == before {
            self.removed.push(unwatched);
        }
    }
}

impl Drop for SynicEvents {
    fn drop(&mut self) {
        let sources = self.slots.drain(..).filter_map(|slot| slot.source);
        self.list.hand_on(sources);
        self.list.taken.store(false, Ordering::Release);
    }
}

impl fmt::Debug for SynicEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.watched()).finish()
    }
}

fn new_eventfd() -> Result<EventFd, Error> {
    EventFd::new(EFD_NONBLOCK).map_err(|source| Error::Event {
        action: "make an eventfd",
        source,
    })
}

#[cfg(test)]
mod tests;
