"""Pure functions of arrays: metrics, bootstrap over patients, AUROC tests, calibration, sample size."""
