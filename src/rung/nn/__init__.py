"""Computing in formats: straight-through quantizers around every matrix product."""

from rung.nn import functional as functional
from rung.nn.audit import AuditReport, audit
from rung.nn.convert import convert_
from rung.nn.policy import Policy, Rule
from rung.nn.quantizer import Quantizer, Quantizers
from rung.nn.report import ConvertedLayer, ConvertReport
from rung.nn.straight_through import straight_through

__all__ = [
    "AuditReport",
    "ConvertReport",
    "ConvertedLayer",
    "Policy",
    "Quantizer",
    "Quantizers",
    "Rule",
    "audit",
    "convert_",
    "functional",
    "straight_through",
]
