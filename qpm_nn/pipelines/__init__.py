"""From images to an interpretable classifier, stage by stage."""
