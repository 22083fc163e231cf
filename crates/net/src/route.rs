//! Routes.

use crate::error::{Error, Operation};
use crate::socket::Netlink;
use crate::types::{AF_INET, AF_INET6, AF_UNSPEC, IfIndex, Prefix, address, family, octets};
use crate::wire::{Frame, Malformed, Message, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use bpfsmith_uapi::uapi_enum;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;

const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_HOST: u8 = 254;
const RT_SCOPE_NOWHERE: u8 = 255;

uapi_enum! {
    /// What happens to a packet that takes a route.
    pub RouteKind: u8, "RTN_" {
        /// Unknown.
        UNSPEC = 0,
        /// It is sent on.
        UNICAST = 1,
        /// It is for this machine.
        LOCAL = 2,
        /// It is for everybody on the link.
        BROADCAST = 3,
        /// It is for this machine and others that share the address.
        ANYCAST = 4,
        /// It is for a group.
        MULTICAST = 5,
        /// It is dropped.
        BLACKHOLE = 6,
        /// The sender is told that there is no way.
        UNREACHABLE = 7,
        /// The sender is told that it is forbidden.
        PROHIBIT = 8,
        /// The next table is asked.
        THROW = 9,
    }
}

uapi_enum! {
    /// The table that a route is in.
    pub RouteTable: u32, "RT_TABLE_" {
        /// Any.
        UNSPEC = 0,
        /// Asked last.
        DEFAULT = 253,
        /// Where routes go unless somebody says otherwise.
        MAIN = 254,
        /// The addresses of this machine.
        LOCAL = 255,
    }
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where packets want to go.
    pub to: Prefix,
    /// What happens to them.
    pub kind: RouteKind,
    /// The next machine; nothing when the destination is on the link.
    pub via: Option<IpAddr>,
    /// The device they leave by.
    pub dev: Option<IfIndex>,
    /// The address they get if they have none.
    pub source: Option<IpAddr>,
    /// Among equals, the smallest counts. IPv6 takes 1024 for none.
    pub metric: Option<u32>,
    /// The largest packet on this way.
    pub mtu: Option<u32>,
    /// The table it is in.
    pub table: RouteTable,
}

impl Route {
    /// A route to these addresses; say by which device or gateway.
    #[must_use]
    pub const fn to(prefix: Prefix) -> Route {
        Route {
            to: prefix,
            kind: RouteKind::UNICAST,
            via: None,
            dev: None,
            source: None,
            metric: None,
            mtu: None,
            table: RouteTable::MAIN,
        }
    }

    /// The way for everything else, through this gateway.
    #[must_use]
    pub const fn default_via(gateway: IpAddr) -> Route {
        let all = match gateway {
            IpAddr::V4(_) => Prefix::V4_ALL,
            IpAddr::V6(_) => Prefix::V6_ALL,
        };
        Route::to(all).via(gateway)
    }

    /// Takes every address of the prefix for one of this machine's own (AnyIP).
    #[must_use]
    pub const fn local(prefix: Prefix) -> Route {
        Route {
            kind: RouteKind::LOCAL,
            table: RouteTable::LOCAL,
            ..Route::to(prefix)
        }
        .dev(IfIndex::LOOPBACK)
    }

    /// Through this gateway.
    #[must_use]
    pub const fn via(self, gateway: IpAddr) -> Route {
        Route {
            via: Some(gateway),
            ..self
        }
    }

    /// By this device.
    #[must_use]
    pub const fn dev(self, index: IfIndex) -> Route {
        Route {
            dev: Some(index),
            ..self
        }
    }

    pub(crate) fn read(frame: Frame<'_>) -> Result<Option<Route>, Malformed> {
        let (&[family, len, _, _, table, _, _, kind, ..], attrs) = frame.split::<12>()?;
        let any = match family {
            AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return Ok(None),
        };
        let mut to = any;
        let mut route = Route {
            kind: RouteKind(kind),
            table: RouteTable(table.into()),
            ..Route::to(Prefix::host(any))
        };
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                RTA_DST => to = address(attr.value)?,
                RTA_GATEWAY => route.via = Some(address(attr.value)?),
                RTA_VIA => {
                    // The family stands in the first two bytes, and in the length of the rest.
                    let addr = attr.value.get(2..).unwrap_or_default();
                    route.via = Some(address(addr)?);
                }
                RTA_PREFSRC => route.source = Some(address(attr.value)?),
                RTA_OIF => route.dev = Some(IfIndex(attr.u32()?)),
                RTA_PRIORITY => route.metric = Some(attr.u32()?),
                RTA_TABLE => route.table = RouteTable(attr.u32()?),
                RTA_METRICS => {
                    let mtu = attr.attrs().find_kind(RTAX_MTU)?;
                    route.mtu = mtu.map(|mtu| mtu.u32()).transpose()?;
                }
                _ => {}
            }
        }
        let what = "a route has a length that its address cannot have";
        route.to = Prefix::new(to, len).map_err(|_| Malformed { what, at: 1 })?;
        Ok(Some(route))
    }

    /// How far away the destination is; IPv4 refuses a route that claims too much.
    fn scope(&self) -> u8 {
        match (self.kind, self.via) {
            (RouteKind::LOCAL, _) => RT_SCOPE_HOST,
            (RouteKind::UNICAST, None) => RT_SCOPE_LINK,
            _ => RT_SCOPE_UNIVERSE,
        }
    }

    fn request(&self, kind: u16, flags: u16) -> Message {
        let network = self.to.network();
        let table = u8::try_from(self.table.0).unwrap_or(0);
        let (protocol, scope) = match kind {
            // Any protocol and scope.
            RTM_DELROUTE => (0, RT_SCOPE_NOWHERE),
            _ => (RTPROT_STATIC, self.scope()),
        };
        let family = family(network.addr());
        let header = [
            family,
            network.len(),
            0,
            0,
            table,
            protocol,
            scope,
            self.kind.0,
            0,
            0,
            0,
            0,
        ];
        Message::new(kind, flags)
            .fixed(&header)
            .attr(RTA_DST, &octets(&network.addr()))
            .u32(RTA_TABLE, self.table.0)
            .maybe(self.via, |m, via| gateway(m, family, via))
            .maybe(self.dev, |m, dev| m.u32(RTA_OIF, dev.0))
            .maybe(self.source, |m, source| {
                m.attr(RTA_PREFSRC, &octets(&source))
            })
            .maybe(self.metric, |m, metric| m.u32(RTA_PRIORITY, metric))
            .maybe(self.mtu, |m, mtu| {
                m.nest(RTA_METRICS, |m| m.u32(RTAX_MTU, mtu))
            })
    }
}

/// A gateway of the other family needs its family told. Linux 5.2.
fn gateway(message: Message, family_of_route: u8, via: IpAddr) -> Message {
    if family(via) == family_of_route {
        return message.attr(RTA_GATEWAY, &octets(&via));
    }
    let mut value = u16::from(family(via)).to_ne_bytes().to_vec();
    value.extend(octets(&via));
    message.attr(RTA_VIA, &value)
}

impl Netlink {
    /// Every route of every table.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to list them or the list never holds still.
    pub fn routes(&self) -> Result<Vec<Route>, Error> {
        let mut header = [0; 12];
        header[0] = AF_UNSPEC;
        let message = Message::new(RTM_GETROUTE, 0).fixed(&header);
        self.dump(Operation::READ_ROUTE, "", &message, Route::read)
    }

    /// The route that a packet to this address takes now.
    ///
    /// # Errors
    ///
    /// `ENETUNREACH` when there is none.
    pub fn route_to(&self, addr: IpAddr) -> Result<Route, Error> {
        let to = Prefix::host(addr);
        let mut header = [0; 12];
        header[0] = family(addr);
        header[1] = to.len();
        let message = Message::new(RTM_GETROUTE, 0)
            .fixed(&header)
            .attr(RTA_DST, &octets(&addr));
        self.ask(Operation::READ_ROUTE, &to.to_string(), message, |frame| {
            let what = "a route is of another family";
            Route::read(frame)?.ok_or(Malformed { what, at: 0 })
        })
    }

    /// Adds a route.
    ///
    /// # Errors
    ///
    /// `EEXIST` when there is one; `ENETUNREACH` or `EHOSTUNREACH` when the gateway cannot be reached.
    pub fn add_route(&self, route: &Route) -> Result<(), Error> {
        let message = route.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
        self.ack(Operation::NEW_ROUTE, &route.to.to_string(), message)
    }

    /// Adds a route, in place of the one to the same prefix if there is one.
    ///
    /// # Errors
    ///
    /// As [`add_route`](Netlink::add_route).
    pub fn replace_route(&self, route: &Route) -> Result<(), Error> {
        let message = route.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
        self.ack(Operation::NEW_ROUTE, &route.to.to_string(), message)
    }

    /// Deletes a route.
    ///
    /// # Errors
    ///
    /// `ESRCH` when there is none.
    pub fn delete_route(&self, route: &Route) -> Result<(), Error> {
        let message = route.request(RTM_DELROUTE, 0);
        self.ack(Operation::DEL_ROUTE, &route.to.to_string(), message)
    }
}
