//! Services: labels with numbers, and what becomes of packets when there is no socket.

use crate::binding::Label;
use crate::error::{Error, Result};
use crate::layout::{Group, Kind, SERVICES, Service, group, label_key, label_of};
use crate::sockets::Socket;
use crate::steering::Steering;
use bpfsmith_asm::kit::lookup::Fallback;
use bpfsmith_uapi::SkAction;
use std::collections::BTreeMap;

/// A service as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    /// What it is called.
    pub label: Label,
    /// What becomes of packets when it has no socket.
    pub fallback: Fallback,
    /// Its sockets.
    pub sockets: Vec<Socket>,
}

/// All services, as they were read under the lock.
#[derive(Debug)]
pub(crate) struct Services {
    all: BTreeMap<Label, Service>,
}

fn verdict(fallback: Fallback) -> u32 {
    let action = match fallback {
        Fallback::Pass => SkAction::PASS,
        Fallback::Drop => SkAction::DROP,
    };
    action.0.cast_unsigned()
}

impl Services {
    pub(crate) fn read(steering: &Steering) -> Result<Services> {
        let mut all = BTreeMap::new();
        for element in steering.labels.iter() {
            let (key, service) = element?;
            let foreign = |_| Error::Foreign {
                map: "steer_services",
            };
            all.insert(label_of(&key).map_err(foreign)?, service);
        }
        Ok(Services { all })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Label, Service)> {
        self.all.iter().map(|(label, service)| (label, *service))
    }

    /// The one of that name.
    pub(crate) fn find(&self, label: &Label) -> Result<Service> {
        let found = self.all.get(label).copied();
        found.ok_or_else(|| Error::NoService {
            label: label.clone(),
            has: self.all.keys().cloned().collect(),
        })
    }

    /// The one of that name, made if there is none: then packets without a socket are refused.
    pub(crate) fn named(&mut self, steering: &Steering, label: &Label) -> Result<Service> {
        if let Some(service) = self.all.get(label) {
            return Ok(*service);
        }
        let mut taken: Vec<u32> = self.all.values().map(|service| service.id).collect();
        taken.sort_unstable();
        let free = (0..SERVICES).find(|id| taken.binary_search(id).is_err());
        let id = free.ok_or(Error::Full {
            what: "services",
            most: SERVICES,
        })?;
        let service = Service {
            id,
            verdict: verdict(Fallback::Drop),
        };
        for kind in Kind::ALL {
            let empty = Group {
                verdict: service.verdict,
                ..Group::default()
            };
            steering.groups.update(&group(id, kind), &empty)?;
        }
        steering.labels.update(&label_key(label), &service)?;
        self.all.insert(label.clone(), service);
        Ok(service)
    }

    pub(crate) fn label(&self, id: u32) -> Result<Label> {
        let found = self.all.iter().find(|(_, service)| service.id == id);
        found.map(|(label, _)| label.clone()).ok_or(Error::Foreign {
            map: "steer_services",
        })
    }
}

impl Steering {
    /// Says what becomes of packets for a service without a living socket. A new service refuses them.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn set_fallback(&mut self, label: &Label, fallback: Fallback) -> Result<()> {
        let _lock = self.writing()?;
        let service = Services::read(self)?.named(self, label)?;
        let verdict = verdict(fallback);
        self.labels
            .update(&label_key(label), &Service { verdict, ..service })?;
        for kind in Kind::ALL {
            let index = group(service.id, kind);
            let held = self.groups.lookup(&index)?.unwrap_or_default();
            self.groups.update(&index, &Group { verdict, ..held })?;
        }
        Ok(())
    }

    /// All services, by label.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn services(&mut self) -> Result<Vec<ServiceInfo>> {
        let _lock = self.reading()?;
        let services = Services::read(self)?;
        let all = services.iter().map(|(label, service)| {
            Ok(ServiceInfo {
                label: label.clone(),
                fallback: match SkAction(service.verdict.cast_signed()) {
                    SkAction::PASS => Fallback::Pass,
                    _ => Fallback::Drop,
                },
                sockets: self.sockets_of(service.id)?,
            })
        });
        all.collect()
    }

    /// Takes a service away, with its sockets.
    ///
    /// # Errors
    /// [`Error::Bound`] while a binding has it, [`Error::NoService`] if there is none.
    pub fn forget(&mut self, label: &Label) -> Result<()> {
        let _lock = self.writing()?;
        let service = Services::read(self)?.find(label)?;
        let mut bound = self.known.table.iter();
        if let Some((binding, _)) = bound.find(|(_, owner)| owner.service == service.id) {
            return Err(Error::Bound {
                label: label.clone(),
                binding,
            });
        }
        drop(bound);
        self.keep_sockets(service, &Kind::ALL, &[])?;
        self.labels.delete(&label_key(label))?;
        Ok(())
    }
}
