//! Services: labels with numbers, and what becomes of packets when there is no socket.

use crate::binding::Label;
use crate::error::{Error, Result};
use crate::layout::{Group, Kind, SERVICES, Service, group, label_key, label_of};
use crate::sockets::Socket;
use crate::steering::Steering;
use bpfsmith_asm::kit::lookup::Fallback;
use bpfsmith_uapi::SkAction;
use std::collections::{BTreeMap, HashMap};

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
    labels: HashMap<u32, Label>,
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
        let (mut all, mut labels) = (BTreeMap::new(), HashMap::new());
        for element in steering.labels.iter() {
            let (key, service) = element?;
            let foreign = |_| Error::Foreign {
                map: "steer_services",
            };
            let label = label_of(&key).map_err(foreign)?;
            labels.insert(service.id, label.clone());
            all.insert(label, service);
        }
        Ok(Services { all, labels })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Label, Service)> {
        self.all.iter().map(|(label, service)| (label, *service))
    }

    /// The one of that name, made if there is none: then packets without a socket are refused.
    pub(crate) fn named(&mut self, steering: &Steering, label: &Label) -> Result<Service> {
        if let Some(service) = self.all.get(label) {
            return Ok(*service);
        }
        let free = (0..SERVICES).find(|id| !self.labels.contains_key(id));
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
        self.labels.insert(id, label.clone());
        Ok(service)
    }

    pub(crate) fn label(&self, id: u32) -> Result<Label> {
        self.labels.get(&id).cloned().ok_or(Error::Foreign {
            map: "steer_services",
        })
    }
}

impl Steering {
    /// The service of that name. The others are not looked at.
    pub(crate) fn service(&self, label: &Label) -> Result<Service> {
        match self.labels.lookup(&label_key(label))? {
            Some(service) => Ok(service),
            None => Err(Error::NoService {
                label: label.clone(),
                has: Services::read(self)?.all.into_keys().collect(),
            }),
        }
    }

    /// The same, made if there is none.
    pub(crate) fn service_made(&self, label: &Label) -> Result<Service> {
        match self.labels.lookup(&label_key(label))? {
            Some(service) => Ok(service),
            None => Services::read(self)?.named(self, label),
        }
    }

    /// Says what becomes of packets for a service without a living socket. A new service refuses them.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn set_fallback(&mut self, label: &Label, fallback: Fallback) -> Result<()> {
        let _lock = self.writing()?;
        let service = self.service_made(label)?;
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
        let service = self.service(label)?;
        let mut bound = self.known.table.iter();
        if let Some((binding, _)) = bound.find(|(_, owner)| owner.service == service.id) {
            return Err(Error::Bound {
                label: label.clone(),
                binding,
            });
        }
        drop(bound);
        self.keep_sockets(service, &Kind::ALL, |_| false)?;
        self.labels.delete(&label_key(label))?;
        Ok(())
    }
}
