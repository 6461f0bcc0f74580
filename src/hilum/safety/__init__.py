"""Guards against what comes from outside: untrusted files, names and ONNX models, threads that end
with their work, and spreadsheet formulas.
"""
