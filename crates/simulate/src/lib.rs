//! A seeded shop: services, traffic, deploys, faults, ground truth, and what an action does to it
