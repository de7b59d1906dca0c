"""Fills a simulated Protheus with a believable company: vendors, products, terms, and orders in every state.

Same number of orders, same dice, same clock: same rows.
"""

import datetime as dt
import random
from collections.abc import Mapping
from typing import Any, Final

from relay.demo.protheus import NewLine, ProtheusDesk
from relay.demo.protheus_rows import OrderKey

VENDORS: Final = (
    ("FOR001", "01", "Fornecedor São João Ltda", "12345678000195", "Belo Horizonte", "MG"),
    ("FOR001", "02", "Fornecedor São João Ltda - Filial Betim", "12345678000276", "Betim", "MG"),
    ("FOR002", "01", "Metalúrgica Três Irmãos S.A.", "23456789000108", "Contagem", "MG"),
    ("FOR003", "01", "Rolamentos Paraná Comércio Ltda", "34567890000121", "Curitiba", "PR"),
    ("FOR004", "01", "Indústria Química Água Clara", "45678901000134", "Camaçari", "BA"),
    ("FOR005", "01", "Aços Itaúna Distribuidora", "56789012000147", "Itaúna", "MG"),
    ("FOR006", "01", "Elétrica Ampère Materiais ME", "67890123000150", "São Paulo", "SP"),
    ("FOR007", "01", "Lubrificantes Cerrado Ltda", "78901234000163", "Goiânia", "GO"),
    ("FOR008", "01", "Embalagens Maçarico & Cia", "89012345000176", "Jundiaí", "SP"),
    ("FOR009", "01", "Ferramentaria Conceição EPP", "90123456000189", "Joinville", "SC"),
    ("FOR010", "01", "Válvulas e Conexões Grão-Pará", "01234567000192", "Belém", "PA"),
    ("FOR011", "01", "Transportes Irmãos Gonçalves", "11223344000155", "Uberlândia", "MG"),
    ("FOR012", "01", "Automação Industrial Nações S/A", "22334455000166", "Santo André", "SP"),
)
PRODUCTS: Final = (
    ("PAR-M8-30", "Parafuso sextavado M8x30", "UN", 1.25),
    ("ROL-6204", "Rolamento rígido 6204 2RS", "UN", 37.90),
    ("CHA-ACO-3", "Chapa de aço 1020 3mm", "KG", 9.87),
    ("OLE-68-20", "Óleo hidráulico ISO 68 20L", "BD", 412.55),
    ("CAB-25-FX", "Cabo flexível 2,5mm² azul", "MT", 2.43),
    ("SOL-E7018", "Eletrodo E7018 3,25mm", "KG", 24.10),
    ("FIL-AR-12", "Filtro de ar compressor", "PC", 186.00),
    ("LUV-NIT-G", "Luva nitrílica tamanho G", "PR", 7.35),
    ("CXA-60-40", "Caixa de papelão 60x40", "CX", 5.62),
    ("VAL-ESF-1", "Válvula esfera 1 polegada", "PC", 89.90),
    ("COR-A-42", "Correia em V perfil A-42", "UN", 21.75),
    ("MOT-5CV", "Motor trifásico 5 CV 4 polos", "PC", 2389.90),
    ("TIN-EPX-L", "Tinta epóxi cinza", "LT", 64.33),
    ("SER-MANUT", "Serviço de manutenção", "HR", 145.00),
)
TERMS: Final = (
    ("001", "À vista"),
    ("030", "30 dias"),
    ("028", "28/56/84 dias"),
    ("060", "60 dias"),
    ("Z15", "Antecipação"),
)
NOTES: Final = (
    "",
    "Entregar no almoxarifado até as 16h",
    "Atenção: manutenção da linha 3 às terças",
    "Não aceitar substituição de marca",
    "Cotação por telefone c/ Conceição",
    "Peça de reposição - parada de máquina",
)
_PRIORITIES: Final = ("NORMAL", "URGENTE", "PARADA", "")
_SITES: Final = ("OBRA-0017", "LINHA 3", "")


def seed(desk: ProtheusDesk, count: int, *, dice: int) -> None:
    """Add the master data and `count` orders of the last 90 days."""
    chance = random.Random(dice)
    for code, store, name, tax_id, city, state in VENDORS:
        desk.add_vendor(code, store, name, {"A2_CGC": tax_id, "A2_MUN": city, "A2_EST": state, "A2_TIPO": "J"})
    for code, text, unit, _ in PRODUCTS:
        desk.add_product(code, text, unit)
    for code, text in TERMS:
        desk.add_term(code, text)
    for _ in range(count):
        _live(desk, any_order(desk, chance), chance)


def any_order(desk: ProtheusDesk, chance: random.Random) -> OrderKey:
    """Create one believable order, waiting for approval."""
    if chance.random() < 0.03:
        desk.skip_number()
    day = desk.today() - dt.timedelta(days=chance.randrange(90))
    vendor = chance.choice(VENDORS)
    return desk.create_order(
        [_line(day, chance) for _ in range(chance.choice((1, 1, 2, 2, 3, 4, 6, 9)))],
        vendor[:2],
        branch=chance.choice(desk.branches),
        payment_term=chance.choice(TERMS)[0],
        currency=2 if chance.random() < 0.05 else 1,
        order_date=day,
        note=chance.choice(NOTES),
        columns={
            "C7_CONTATO": chance.choice(("Conceição", "João", "Antônio", "")),
            "C7_TXMOEDA": 0,
            "C7_COMPRA": f"{chance.randrange(1, 8):03d}",
            "C7_TPFRETE": chance.choice("CF"),
            "C7_XPRIOR": chance.choice(_PRIORITIES),
            "C7_XOBRA": chance.choice(_SITES),
        },
    )


def _line(day: dt.date, chance: random.Random) -> NewLine:
    product, _, _, price = chance.choice(PRODUCTS)
    return NewLine(
        product,
        chance.choice((1, 2, 4, 10, 25, 100, 12.5, 0.75)),
        round(price * chance.uniform(0.9, 1.15), 2),
        day + dt.timedelta(days=chance.randrange(5, 45)),
        {"C7_CC": f"{chance.randrange(100, 140)}", "C7_XPESO": round(chance.uniform(0.1, 90), 3)},
    )


def _live(desk: ProtheusDesk, order: OrderKey, chance: random.Random) -> None:
    """Take a fresh order to some point of its life."""
    fate = chance.random()
    if fate < 0.15:
        return
    if fate < 0.18:
        desk.change_header(order, {"C7_TIPO": 2})
    desk.approve(order)
    for row in desk.rows(order):
        _live_line(desk, order, row, fate, chance)
    if 0.88 <= fate < 0.94:
        desk.eliminate_residue(order)
    elif fate >= 0.97:
        desk.delete_order(order)


def _live_line(desk: ProtheusDesk, order: OrderKey, row: Mapping[str, Any], fate: float, chance: random.Random) -> None:
    item, quantity = row["C7_ITEM"], row["C7_QUANT"]
    if 0.50 <= fate < 0.72 and chance.random() < 0.7:
        desk.receive(order, item, round(quantity * chance.choice((0.25, 0.5, 1)), 2))
    elif 0.72 <= fate < 0.88:
        desk.receive(order, item, quantity)
    elif 0.94 <= fate < 0.97 and item != "0001":
        desk.delete_line(order, item)
