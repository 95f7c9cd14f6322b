// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Doorbells, irqfds and MSI routes of a partition of /dev/mshv, on a double of it.

use std::sync::Arc;

use vm_synic::backend::mshv::{CallError, MsiRoute, MsiRoutes, RouteError};
use vm_synic::test_utils::MshvDouble;
use vm_synic::{DoorbellSize, DoorbellSpec};
use vmm_sys_util::eventfd::EventFd;

const EEXIST: i32 = 17;
const GPA: u64 = 0xFEB0_0000;
const EDGE: MsiRoute = MsiRoute {
    address: 0xFEE0_1000,
    data: 0x31,
};
const LEVEL: MsiRoute = MsiRoute {
    address: 0xFEE0_1000,
    data: 0x8032,
};

fn fd() -> Arc<EventFd> {
    Arc::new(EventFd::new(0).unwrap())
}

#[test]
fn add_doorbell_of_each_kind_is_what_the_driver_takes() {
    let double = MshvDouble::new(1);
    let partition = double.partition();
    let specs = [
        (DoorbellSpec::at(GPA), (0, 0, 0)),
        (DoorbellSpec::at(GPA).size(DoorbellSize::Byte), (1, 0, 0)),
        (
            DoorbellSpec::at(GPA).size(DoorbellSize::Word).value(7),
            (2, 1, 7),
        ),
        (DoorbellSpec::at(GPA).size(DoorbellSize::Dword), (4, 0, 0)),
        (
            DoorbellSpec::at(GPA).size(DoorbellSize::Qword).value(0),
            (8, 1, 0),
        ),
    ];
    for (spec, expected) in specs {
        let added = partition.add_doorbell(spec, fd()).unwrap();
        let registered = double.doorbells();
        let registered = registered
            .iter()
            .map(|there| (there.len, there.flags, there.datamatch));
        assert_eq!(registered.collect::<Vec<_>>(), [expected], "{spec:?}");
        drop(added);
        assert_eq!(double.doorbells().len(), 0, "{spec:?} is not removed");
    }
}

#[test]
fn add_doorbell_when_another_would_ring_too_is_refused() {
    let double = MshvDouble::new(1);
    let partition = double.partition();
    let dword = DoorbellSpec::at(GPA).size(DoorbellSize::Dword);
    let _first = partition.add_doorbell(dword.value(1), fd()).unwrap();
    let _second = partition.add_doorbell(dword.value(2), fd()).unwrap();
    for spec in [dword.value(1), dword] {
        let refused = partition.add_doorbell(spec, fd());
        assert_eq!(refused.unwrap_err(), CallError::Os(EEXIST), "{spec:?}");
    }
}

#[test]
fn set_when_several_gsis_are_routed_loads_the_whole_table() {
    let double = MshvDouble::new(1);
    let routes = MsiRoutes::new(double.partition());
    routes.set(5, EDGE).unwrap();
    routes.set(3, LEVEL).unwrap();
    routes.set(5, LEVEL).unwrap();
    let table = double.routes();
    let table: Vec<_> = table.iter().map(|entry| (entry.gsi, entry.data)).collect();
    assert_eq!(table, [(3, 0x8032), (5, 0x8032)]);
    routes.remove(3).unwrap();
    assert_eq!(double.routes().len(), 1);
}

#[test]
fn set_when_the_driver_would_raise_vector_0_is_refused() {
    let double = MshvDouble::new(1);
    let routes = MsiRoutes::new(double.partition());
    assert_eq!(routes.set(0, EDGE), Err(RouteError::Gsi(0)));
    assert_eq!(routes.set(4096, EDGE), Err(RouteError::Gsi(4096)));
    let low = MsiRoute { data: 15, ..EDGE };
    assert_eq!(routes.set(1, low), Err(RouteError::Vector(15)));
    routes.set(9, EDGE).unwrap();
    let hole = routes.irqfd(8, fd(), None).unwrap_err();
    assert_eq!(hole, RouteError::NoRoute(8));
    assert_eq!(double.irqfds().len(), 0);
}

#[test]
fn irqfd_when_it_is_dropped_is_removed_and_its_route_is_free() {
    let double = MshvDouble::new(1);
    let routes = MsiRoutes::new(double.partition());
    routes.set(1, EDGE).unwrap();
    let irqfd = routes.irqfd(1, fd(), None).unwrap();
    assert_eq!(routes.remove(1), Err(RouteError::InUse(1, 1)));
    drop(irqfd);
    assert_eq!(double.irqfds().len(), 0);
    assert_eq!(routes.remove(1), Ok(()));
    assert_eq!(routes.remove(1), Err(RouteError::NoRoute(1)));
}

#[test]
fn irqfd_with_a_resample_eventfd_needs_a_level_triggered_route() {
    let double = MshvDouble::new(1);
    let routes = MsiRoutes::new(double.partition());
    routes.set(1, EDGE).unwrap();
    let refused = routes.irqfd(1, fd(), Some(fd())).unwrap_err();
    assert_eq!(refused, RouteError::Edge(1));
    routes.set(1, LEVEL).unwrap();
    let _irqfd = routes.irqfd(1, fd(), Some(fd())).unwrap();
    assert_eq!(double.irqfds()[0].flags, 2);
}

#[test]
fn irqfd_when_the_driver_refuses_leaves_the_route_free() {
    let double = MshvDouble::new(1);
    let routes = MsiRoutes::new(double.partition());
    routes.set(1, EDGE).unwrap();
    let shared = fd();
    let irqfd = routes.irqfd(1, shared.clone(), None).unwrap();
    let busy = routes.irqfd(1, shared, None).unwrap_err();
    assert_eq!(busy, RouteError::Driver(CallError::Os(16)));
    drop(irqfd);
    assert_eq!(routes.remove(1), Ok(()));
}
