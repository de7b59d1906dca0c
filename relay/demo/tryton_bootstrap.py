"""Fill an empty Tryton with a Brazilian company, vendors, products and warehouses.

    python tryton_bootstrap.py CONFIG DATABASE        (the passwords come in a JSON object on standard input)

Runs inside Tryton's own environment, not inside relay's, and needs no network: every helper ships in Tryton's wheels.
The foreign modules are imported by name, late, because Tryton reads its configuration before its modules may be loaded.
"""

import datetime as dt
import json
import sys
from decimal import Decimal
from importlib import import_module
from typing import Any, Final

COMPANY: Final = ("Indústria Modelo S.A.", "11222333000181")
VENDORS: Final = (
    ("F001", "Fornecedor São João Ltda", "br_vat", "11444777000161"),
    ("F002", "Aços Itaú & Irmãos Comércio S.A.", "br_vat", "45997418000153"),
    ("F003", "Química Três Corações Ltda", "br_vat", "60746948000112"),
    ("F004", "José Antônio Gonçalves", "br_cpf", "11144477735"),
)
PRODUCTS: Final = (
    ("PAR-M8", "Parafuso sextavado M8 × 30", "Unit", "1.2500"),
    ("ROL-6204", "Rolamento 6204", "Unit", "37.9000"),
    ("CHA-A36", "Chapa de aço A36", "Kilogram", "7.8500"),
    ("CAB-25", "Cabo flexível 2,5 mm²", "Meter", "2.4300"),
    ("OLE-68", "Óleo hidráulico ISO 68", "Liter", "18.6500"),
    ("SRV-MAN", "Serviço de manutenção", "Hour", "120.0000"),
)
WAREHOUSE: Final = ("Filial Minas", "MG")


def main(config_file: str, database: str, passwords: dict[str, str]) -> None:
    """Write everything into `database`; `passwords` has one for each user to create (here: `relay`)."""
    proteus = import_module("proteus")
    config = proteus.config.set_trytond(database, config_file=config_file)
    model = proteus.Model.get
    company = found_company(model, config)
    category = open_books(model, company)
    vendors(model)
    products(model, category)
    second_warehouse(model)
    tool("account_invoice", "create_payment_term")().save()
    for login, password in passwords.items():
        purchasing_user(model, login, password, company)


def tool(module: str, name: str) -> Any:
    """Return one of the set-up helpers that Tryton's modules ship with their tests."""
    return getattr(import_module(f"trytond.modules.{module}.tests.tools"), name)


def found_company(model: Any, config: Any) -> Any:
    """Create the company, in reais, and let the administrator work in it."""
    currency = model("currency.currency")(name="Real", symbol="R$", code="BRL", rounding=Decimal("0.01"))
    currency.save()
    model("currency.currency.rate")(date=dt.date.min, rate=Decimal(1), currency=currency).save()
    name, tax_id = COMPANY
    party = new_party(model, "EMP", name, "br_vat", tax_id)
    tool("company", "create_company")(party=party, currency=currency)
    company = tool("company", "get_company")()
    user_model = model("res.user")
    administrator = user_model(config.user)
    administrator.companies.append(company)
    administrator.company = company
    administrator.save()
    config._context = user_model.get_preferences(True, config.context)  # noqa: SLF001 - as Tryton's own scripts do
    return company


def open_books(model: Any, company: Any) -> Any:
    """Chart of accounts, one open fiscal year, one tax of 10 %; returns the accounting category of all products."""
    tool("account", "create_chart")(company)
    today = dt.datetime.now(dt.UTC).date()
    year = tool("account_invoice", "set_fiscalyear_invoice_sequences")(
        tool("account", "create_fiscalyear")(today=today)
    )
    year.click("create_period")
    accounts = tool("account", "get_accounts")()
    tax = tool("account", "create_tax")(Decimal("0.10"))
    tax.save()
    category = model("product.category")(
        name="Compras", accounting=True, account_expense=accounts["expense"], account_revenue=accounts["revenue"]
    )
    category.supplier_taxes.append(tax)
    category.save()
    return category


def vendors(model: Any) -> None:
    """Vendors with accents in their names and Brazilian tax ids."""
    for code, name, kind, tax_id in VENDORS:
        new_party(model, code, name, kind, tax_id)


def new_party(model: Any, code: str, name: str, kind: str, tax_id: str) -> Any:
    """Create a party with an address and a tax id."""
    country = model("country.country")
    brazil = next(iter(country.find([("code", "=", "BR")])), None)
    if brazil is None:
        brazil = country(name="Brasil", code="BR")
        brazil.save()
    party = model("party.party")(name=name, code=code)
    (address,) = party.addresses
    address.street, address.postal_code, address.city, address.country = (
        "Rua das Acácias, 100",
        "30110-000",
        "Belo Horizonte",
        brazil,
    )
    identifier = party.identifiers.new()
    identifier.type, identifier.code = kind, tax_id
    party.save()
    return party


def products(model: Any, category: Any) -> None:
    """Products in several units; the last one is a service."""
    for code, name, unit, price in PRODUCTS:
        (uom,) = model("product.uom").find([("name", "=", unit)])
        template = model("product.template")(
            name=name,
            code=code,
            default_uom=uom,
            type="service" if unit == "Hour" else "goods",
            purchasable=True,
            list_price=Decimal(price),
            cost_price_method="fixed",
            account_category=category,
        )
        template.save()


def second_warehouse(model: Any) -> None:
    """Create a warehouse beside the one Tryton is born with."""
    location = model("stock.location")
    name, code = WAREHOUSE
    parts = {}
    for part in ("input", "output", "storage"):
        parts[part] = location(name=f"{name} {part}", code=f"{code}-{part}", type="storage")
        parts[part].save()
    location(
        name=name,
        code=code,
        type="warehouse",
        input_location=parts["input"],
        output_location=parts["output"],
        storage_location=parts["storage"],
    ).save()


def purchasing_user(model: Any, login: str, password: str, company: Any) -> None:
    """Create a user who may do what a buyer may, and nothing of an administrator."""
    user = model("res.user")(name=login, login=login, password=password)
    own = model("company.company")(company.id)
    user.companies.append(own)
    user.company = own
    for group in model("res.group").find([("name", "in", ["Purchase", "Stock"])]):
        user.groups.append(group)
    user.save()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.load(sys.stdin))
