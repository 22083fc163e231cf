//! `Steering`: the program on its hook, with the maps that it goes by.

use crate::error::{Error, HomeProblem, Result};
use crate::home::{For, Home, Lock, PINS, PROGRAM_NEXT};
use crate::layout::{
    Entry, GROUPS, Group, LABELS, LAYOUT, LEVELS, LabelKey, MAGIC, META, Meta, RULES, RuleKey,
    SOCKET_MAP, Service, TABLE, TALLIES, Tally,
};
use crate::program::program;
use crate::table::Table;
use bpfsmith_maps::{Map, ObjectMap, PerCpuMap};
use bpfsmith_net::NetNs;
use bpfsmith_prog::target::Netns;
use bpfsmith_prog::{Link, Load, Maps, Prog};
use bpfsmith_sys::info;
use bpfsmith_sys::socket::netns_cookie;
use bpfsmith_uapi::{AttachType, Errno};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;

/// Rules and sockets of a network namespace, in force as long as this handle lives or a directory
/// holds them.
#[derive(Debug)]
#[must_use = "what is pinned nowhere ends when it is dropped"]
pub struct Steering {
    pub(crate) home: Home,
    pub(crate) rules: ObjectMap<u32, u32>,
    pub(crate) levels: Map<u32, u32>,
    pub(crate) groups: Map<u32, Group>,
    pub(crate) sockets: ObjectMap<u64, u64>,
    pub(crate) tallies: PerCpuMap<u32, Tally>,
    pub(crate) labels: Map<LabelKey, Service>,
    pub(crate) meta: Map<u32, Meta>,
    pub(crate) prog: Prog,
    link: Link,
    pub(crate) known: Known,
}

/// The rules as they were read or written last.
#[derive(Debug)]
pub(crate) struct Known {
    /// Of which generation they are. The kernel's never is 0.
    pub(crate) generation: u64,
    pub(crate) table: Table,
    /// What the program knows of them besides.
    pub(crate) levels: Vec<u32>,
    /// The entries that the program reads.
    pub(crate) entries: Map<RuleKey, Entry>,
}

/// Whether [`Steering::upgrade`] had anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// The program was that of this library already.
    Same,
    /// Another one was there.
    Replaced,
}

impl Steering {
    /// Steers a namespace from now on, with no rules yet. It ends with this handle.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn new(ns: &NetNs) -> Result<Steering> {
        Steering::attached(Home::Private, ns)
    }

    /// Steers a namespace from now on, and pins everything in a new directory of a bpffs: it goes on
    /// without this process.
    ///
    /// # Errors
    /// [`HomeProblem::Exists`], [`HomeProblem::NotBpffs`], and what the kernel refuses. Then nothing is
    /// left.
    pub fn create(dir: impl AsRef<Path>, ns: &NetNs) -> Result<Steering> {
        let dir = dir.as_ref();
        let home = Home::make(dir)?;
        let made = home.lock(For::Writing).and_then(|lock| {
            let steering = Steering::attached(home, ns)?;
            steering.pin(dir)?;
            Ok((steering, lock))
        });
        match made {
            Ok((steering, _)) => Ok(steering),
            Err(error) => {
                // The first error says more than what cannot be removed.
                let _ = Home::clear(dir);
                Err(error)
            }
        }
    }

    /// Opens what is pinned in a directory.
    ///
    /// # Errors
    /// [`HomeProblem`] says what is wrong with the directory. `EPERM` without `CAP_SYS_ADMIN`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Steering> {
        let home = Home::at(dir.as_ref())?;
        let lock = home.lock(For::Reading)?;
        let meta = Map::from_handle(home.map("meta", &META)?)?;
        home.known(&meta)?;
        let rules = ObjectMap::from_handle(home.map("rules", &RULES)?)?;
        let mut steering = Steering {
            levels: Map::from_handle(home.map("levels", &LEVELS)?)?,
            groups: Map::from_handle(home.map("groups", &GROUPS)?)?,
            sockets: ObjectMap::from_handle(home.map("sockets", &SOCKET_MAP)?)?,
            tallies: PerCpuMap::from_handle(home.map("tallies", &TALLIES)?)?,
            labels: Map::from_handle(home.map("services", &LABELS)?)?,
            prog: home.open("program", |path| {
                Prog::open_pin(path, AttachType::SK_LOOKUP)
            })?,
            link: home.open("link", Link::open_pin)?,
            known: Known {
                generation: 0,
                table: Table::default(),
                levels: Vec::new(),
                entries: in_force(&rules)?,
            },
            rules,
            meta,
            home,
        };
        steering.sync(&lock)?;
        Ok(steering)
    }

    fn attached(home: Home, ns: &NetNs) -> Result<Steering> {
        let program = program();
        let maps = Maps::of(&program)?;
        let hook = Netns::lookup(ns);
        let prog = Load::new(&program).maps(&maps).to(&hook)?.load()?;
        let (meta, entries) = (Map::create(&META)?, Map::create(&TABLE)?);
        let rules: ObjectMap<u32, u32> = maps.open(&RULES)?;
        rules.set(&0, &entries)?;
        let about = Meta {
            magic: MAGIC,
            layout: LAYOUT,
            generation: 1,
            netns: cookie_of(ns)?,
            counter: 0,
        };
        meta.update(&0, &about)?;
        Ok(Steering {
            levels: maps.open(&LEVELS)?,
            groups: maps.open(&GROUPS)?,
            sockets: maps.open(&SOCKET_MAP)?,
            tallies: maps.open(&TALLIES)?,
            labels: Map::create(&LABELS)?,
            link: prog.attach(&hook)?,
            known: Known {
                generation: 1,
                levels: Table::default().levels(),
                table: Table::default(),
                entries,
            },
            home,
            rules,
            meta,
            prog,
        })
    }

    /// The link comes last: where it is, the rest is too.
    fn pin(&self, dir: &Path) -> Result<()> {
        let [
            meta,
            rules,
            levels,
            groups,
            sockets,
            tallies,
            services,
            program,
            link,
        ] = PINS.map(|pin| dir.join(pin));
        self.meta.pin(meta).map_err(|error| match error.errno() {
            Some(Errno::EPERM) => self.home.problem(HomeProblem::NotBpffs),
            _ => error.into(),
        })?;
        self.rules.pin(rules)?;
        self.levels.pin(levels)?;
        self.groups.pin(groups)?;
        self.sockets.pin(sockets)?;
        self.tallies.pin(tallies)?;
        self.labels.pin(services)?;
        self.prog.pin(program)?;
        Ok(self.link.pin(link)?)
    }

    /// Where it is pinned.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.home.path()
    }

    /// The link that holds the program on its hook.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Puts the program of this library in the place of the one that is there, which another build of
    /// the same layout may have left. No packet goes without one.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn upgrade(&mut self) -> Result<Upgrade> {
        let _lock = self.home.lock(For::Writing)?;
        let program = program();
        let mut maps = Maps::new();
        for map in [
            self.rules.try_clone()?.into(),
            self.levels.try_clone()?.into(),
            self.groups.try_clone()?.into(),
            self.sockets.try_clone()?.into(),
            self.tallies.try_clone()?.into(),
        ] {
            let map: bpfsmith_maps::Handle = map;
            if let Some(name) = map.name() {
                maps.insert(name, map);
            }
        }
        let load = Load::new(&program).maps(&maps);
        let new = load.attach_type(AttachType::SK_LOOKUP).load()?;
        if tag(&new)? == tag(&self.prog)? {
            return Ok(Upgrade::Same);
        }
        self.link.update(&new)?;
        if let Some(dir) = self.home.path() {
            // The name is never gone: whoever dies here, leaves something that can be opened.
            let (next, path) = (dir.join(PROGRAM_NEXT), dir.join("program"));
            match std::fs::remove_file(&next) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::file("unlink", next, &error));
                }
                _ => new.pin(&next)?,
            }
            std::fs::rename(&next, &path).map_err(|error| Error::file("rename", path, &error))?;
        }
        self.prog = new;
        Ok(Upgrade::Replaced)
    }

    /// Ends the steering, whoever else has it open, and removes the directory.
    ///
    /// # Errors
    /// What cannot be detached or removed.
    pub fn remove(self) -> Result<()> {
        let lock = self.home.lock(For::Writing)?;
        self.link.force_detach()?;
        let cleared = self.home.path().map_or(Ok(()), Home::clear);
        drop(lock);
        cleared
    }

    /// Reads the rules if somebody else changed them. Says whether entries and bindings agree: they do
    /// not where a process died in the middle of a change.
    pub(crate) fn sync(&mut self, _lock: &Lock) -> Result<Agree> {
        let meta = self.home.known(&self.meta)?;
        if meta.generation == self.known.generation {
            return Ok(Agree::Yes);
        }
        let entries = in_force(&self.rules)?;
        let indices = 0..self.levels.facts().entries;
        let levels = indices.map(|index| Ok(self.levels.lookup(&index)?.unwrap_or(0)));
        let levels = levels.collect::<Result<_>>()?;
        let (table, agree) = crate::rules::read(&entries)?;
        self.known = Known {
            // A torn table is looked at again by the next one who comes.
            generation: if agree == Agree::Yes {
                meta.generation
            } else {
                0
            },
            table,
            levels,
            entries,
        };
        Ok(agree)
    }
}

/// Whether the entries of a table are those of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agree {
    Yes,
    No,
}

/// The table that the program reads.
fn in_force(rules: &ObjectMap<u32, u32>) -> Result<Map<RuleKey, Entry>> {
    let handle = rules
        .inner(&0)?
        .ok_or(Error::Foreign { map: "steer_rules" })?;
    Ok(Map::from_handle(handle)?)
}

fn tag(prog: &Prog) -> Result<[u8; 8]> {
    let info = info::prog(prog.as_fd()).map_err(|failed| {
        Error::Prog(bpfsmith_prog::Error::Kernel(bpfsmith_prog::Kernel {
            call: failed.cmd.to_string(),
            kind: "program",
            object: prog.name().to_owned(),
            errno: failed.errno,
        }))
    })?;
    Ok(info.tag)
}

/// The number by which sockets tell that they are in this namespace.
fn cookie_of(ns: &NetNs) -> Result<u64> {
    let made = ns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    let socket = made.map_err(|error| Error::file("bind", "a socket", &error))?;
    Ok(netns_cookie(socket.as_fd())?)
}
