//! Topology, grouping, change correlation: ranked hypotheses with their evidence
