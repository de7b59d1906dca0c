"""Fills a simulated RM with a believable company: vendors, products, terms, and orders in every state.

Same number of orders, same dice, same clock: same movements.
"""

import random
from typing import Final

from relay.demo.rm import NewItem, RmDesk
from relay.demo.rm_rows import Id

VENDORS: Final = {
    "F00012": "Fornecedor São João Ltda",
    "F00013": "Metalúrgica Três Irmãos S.A.",
    "F00014": "Rolamentos Paraná Comércio Ltda",
    "F00015": "Indústria Química Água Clara",
    "F00099": "Fornecedor Inativo ME",
    "C00001": "Cliente Conceição EPP",
}
BLOCKED_VENDOR: Final = "F00099"
PRODUCTS: Final = {
    1001: ("01.01.0001", "Parafuso sextavado M8x30", "UN", 1.25),
    1002: ("01.01.0002", "Rolamento rígido 6204 2RS", "UN", 37.90),
    1003: ("01.02.0001", "Chapa de aço 1020 3mm", "KG", 9.87),
    1004: ("02.01.0001", "Óleo hidráulico ISO 68 20L", "BD", 412.55),
    1005: ("02.01.0007", "Cabo flexível 2,5mm² azul", "MT", 2.43),
    1006: ("03.01.0003", "Serviço de manutenção", "HR", 145.00),
}
TERMS: Final = {"001": "À vista", "030": "30 dias", "060": "60 dias"}
NOTES: Final = (None, "Entregar no almoxarifado até as 16h", "Não aceitar substituição de marca", "Peça de reposição")
BUYABLE: Final = tuple(code for code in VENDORS if code.startswith("F") and code != BLOCKED_VENDOR)


def seed(desk: RmDesk, count: int, *, dice: int) -> None:
    """Add the registers and `count` orders, with a sale between every two."""
    chance = random.Random(dice)
    registers = desk.registers
    registers.vendors |= VENDORS
    registers.blocked.add(BLOCKED_VENDOR)
    registers.terms |= TERMS
    registers.products |= {number: told[:3] for number, told in PRODUCTS.items()}
    for _ in range(count):
        if chance.random() < 0.5:
            desk.sell(chance.randint(1, 9))
        _live(desk, any_order(desk, chance), chance)


def any_order(desk: RmDesk, chance: random.Random) -> Id:
    """Create one believable order."""
    return desk.create_order(
        [any_item(chance) for _ in range(chance.choice((1, 1, 2, 3, 5)))],
        chance.choice(BUYABLE),
        branch=chance.choice((1, 2)),
        status=chance.choice("AAAB"),
        fields={"Observation": chance.choice(NOTES), "FreeField1": chance.choice((None, "URGENTE", "OBRA 17"))},
    )


def any_item(chance: random.Random) -> NewItem:
    """Some product, in some quantity."""
    number, (_, _, _, price) = chance.choice(list(PRODUCTS.items()))
    return NewItem(number, chance.choice((1, 2, 4, 10, 100, 12.5)), round(price * chance.uniform(0.9, 1.15), 2))


def _live(desk: RmDesk, order: Id, chance: random.Random) -> None:
    """Take a fresh order to some point of its life."""
    fate = chance.random()
    if fate < 0.5:
        return
    if fate < 0.7:
        desk.approve(order)
        desk.receive(order, 1, 1)
    elif fate < 0.85:
        desk.approve(order)
        for item in (desk.movement(order) or {})["Items"]:
            desk.receive(order, item["SequentialId"], item["Quantity"])
    elif fate < 0.92:
        desk.cancel(order)
    elif fate < 0.96:
        desk.finish(order)
    else:
        desk.delete(order)
