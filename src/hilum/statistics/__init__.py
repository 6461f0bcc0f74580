"""Pure functions of arrays: metrics, intervals over patients, tests, calibration, sample size."""
