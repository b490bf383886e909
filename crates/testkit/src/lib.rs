//! What tests of many crates share: golden files, noise that is the same in every run, a playbook that may act.
//!
//! Only tests and benches stand on it, so it may stop at what cannot be. It knows no other crate of the workspace: the tests
//! inside any of them may use it.

pub mod golden;
pub mod noise;

/// The playbooks of a pipeline file that rolls back whatever change is blamed, with a safety case that lets it. Outcomes may
/// take as long as they like, so that no request runs out within a test.
pub const ROLL_BACK: &str = "remediate:
  mode: autonomous
  playbooks:
    - name: roll back
      owner: release team
      rung: autonomous
      action: {action: rollback}
      reversal: {action: redeploy}
      limits: {verify_within: 6000d, expires_after: 5000d, minimum_probability: 0.1}
      safety:
        trigger: an incident opens
        false_positives: [none that are known]
        blast_radius: one service runs its former version
        reversal_time: 90s
        budget: {actions: 10, per: 1h}
        telemetry: [error_ratio]
";

/// As [`ROLL_BACK`], but of bad deploys alone, where they are likely, and with the blamed change for a parameter.
pub const ROLL_BACK_BAD_DEPLOY: &str = r#"remediate:
  mode: autonomous
  playbooks:
    - name: roll back
      owner: release team
      match: {class: [bad_deploy]}
      rung: autonomous
      action: {action: rollback, parameters: {change: "{{change}}"}}
      reversal: {action: redeploy, parameters: {change: "{{change}}"}}
      limits: {verify_within: 6000d, expires_after: 5000d, minimum_probability: 0.8}
      safety:
        trigger: an incident opens soon after a deploy, and the deploy explains it best
        false_positives: [an innocent deploy at the same place in the same minutes]
        blast_radius: one service runs its former version
        reversal_time: 90s
        budget: {actions: 10, per: 1h}
        telemetry: [error_ratio]
"#;
