"""What connectors are written with: exact JSON, named mapping rules, token logins. Knows no ERP."""
