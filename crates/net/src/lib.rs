//! Network namespaces, devices, addresses, routes and attachments over netlink.
