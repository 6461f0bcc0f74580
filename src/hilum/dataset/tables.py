"""TEMP stub."""
from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hilum.errors import BadData

KINDS=("csv","tsv","xlsx","parquet","jsonl","json")
def kind(path, head):
    e=Path(path).suffix.lower()
    return {".csv":"csv",".tsv":"tsv",".json":"json"}.get(e)
@dataclass(frozen=True)
class Table:
    name:str; frame:pl.DataFrame; first_line:int=2; remarks:tuple=(); repeated:tuple=(); headless:bool=False
    def line_of(self,row): return self.first_line+row
@dataclass(frozen=True)
class Coco:
    images:pl.DataFrame; annotations:pl.DataFrame; categories:pl.DataFrame
def read_coco(path): return None
def number(cell):
    try: return float(cell.replace(",","."))
    except ValueError: return None
def read(path,*,name=None):
    from hilum.files import text
    if path.suffix not in(".csv",".tsv"): raise BadData("x")
    words,_=text.read(path)
    words=words.replace("\r\n","\n").replace("\r","\n")
    d=text.delimiter(words)
    csv.field_size_limit(10**9)
    rows=[r for r in csv.reader(io.StringIO(words),delimiter=d) if r]
    head=[h.strip() for h in rows[0]]
    names=[];rep=[]
    for h in head:
        if h in names: rep.append(h); h=h+" (2)"
        names.append(h)
    cols={n:[(r[i].strip() if i<len(r) else "") for r in rows[1:]] for i,n in enumerate(names) if n}
    return [Table(name or path.name,pl.DataFrame(cols,schema={n:pl.String for n in cols}),2,(),tuple(rep))]
