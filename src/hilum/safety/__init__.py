"""Guard what comes from outside: untrusted files and names, foreign ONNX models, threads that end
with their work, cells that a spreadsheet would run.
"""
