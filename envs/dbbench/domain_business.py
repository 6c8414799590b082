"""Domains of generated DB Bench tasks: work, trade, health, schools. All invented for this project."""

from __future__ import annotations

from envs.dbbench.domain_kinds import Category, Day, Domain, Entity, Link, Name, Number

__all__ = ["BUSINESS"]

_PERSON = ("{first} {last}",)
_KINDS = {
    "kind": ("Compact", "Deluxe", "Classic", "Portable", "Folding", "Solar", "Quiet", "Heavy-duty", "Mini", "Travel"),
    "thing": (
        "Lamp", "Drill", "Kettle", "Backpack", "Heater", "Radio", "Chair", "Tent", "Blender", "Scale", "Camera", "Fan",
    ),
}  # fmt: skip

BUSINESS = (
    Domain("employees", "employee", (
        Entity("department", "departments", ("Departments",), Name("name", "Department", ("{name}",), {
            "name": ("Sales", "Engineering", "Finance", "Legal", "Marketing", "Support", "Logistics", "Research"),
        }), (
            Category("city", "City", "city"),
            Number("budget", "Budget", 40_000, 2_000_000),
            Number("floor", "Floor", 1, 14, additive=False),
        )),
        Entity("employee", "employees", ("Employees", "Staff Directory", "company_staff"),
            Name("name", "Name", _PERSON), (
            Category("job", "Job title", "job"),
            Category("office", "Office", "city"),
            Number("salary", "Salary ($)", 28_000, 142_000),
            Number("years_of_service", "Years of service", 1, 35),
            Number("bonus", "Bonus ($)", 100, 9000, 2),
            Day("hire_date", "Hired", 1995, 2023),
        ), (Link("department_id", "Department", "department", "department"),)),
        Entity("leave", "leaves", ("Leaves",), None, (
            Category("reason", "Reason", ("Holiday", "Illness", "Parental", "Training")),
            Day("first_day", "From", 2021, 2024),
            Number("days", "Days", 1, 40),
        ), (Link("employee_id", "Employee", "employee", "employee"),)),
    )),
    Domain("shop", "product", (
        Entity("supplier", "suppliers", ("Suppliers",), Name("name", "Supplier", ("{company}",)), (
            Category("country", "Country", "country"),
            Number("rating", "Rating", 1, 5, 1, additive=False),
        )),
        Entity("warehouse", "warehouses", ("Warehouses",),
            Name("name", "Warehouse", ("{city} Depot", "{street} Store")), (
            Category("manager", "Manager", "last"),
            Number("capacity", "Capacity", 400, 90_000),
        )),
        Entity("product", "products", ("Products", "Warehouse Stock", "inventory"),
            Name("name", "Product", ("{kind} {thing}", "{adjective} {thing}"), _KINDS), (
            Category("category", "Category", ("Home", "Outdoor", "Tools", "Electronics", "Travel")),
            Category("colour", "Colour", ("Black", "White", "Green", "Navy", "Orange")),
            Number("unit_price", "Unit price ($)", 4, 320, 2),
            Number("in_stock", "In stock (pcs)", 2, 900),
            Number("weight", "Weight (kg)", 1, 40, 1),
            Number("article_number", "Art. no.", 5, 9800, additive=False, code=True),
        ), (
            Link("supplier_id", "Supplier", "supplier", "supplier"),
            Link("warehouse_id", "Kept in", "warehouse", "warehouse"),
        )),
        Entity("order", "orders", ("Orders",), None, (
            Category("customer", "Customer", "last"),
            Day("order_date", "Date", 2021, 2024),
            Number("quantity", "Qty.", 1, 60),
            Number("discount", "Discount (%)", 0, 30, additive=False),
        ), (Link("product_id", "Product", "product", "product"),)),
    )),
    Domain("hospital", "patient", (
        Entity("ward", "wards", ("Wards",), Name("name", "Ward", ("{name}",), {
            "name": ("Cardiology", "Surgery", "Maternity", "Neurology", "Oncology", "Paediatrics", "Urology"),
        }), (
            Number("beds", "Beds", 8, 60),
            Category("building", "Building", ("Main", "East Wing", "Annex")),
        )),
        Entity("patient", "patients", ("Patients", "Hospital Admissions", "patient_list"),
            Name("name", "Patient", _PERSON), (
            Category("town", "Town", "city"),
            Category("blood_type", "Blood type", ("A", "B", "AB", "O")),
            Category("insurance", "Insurance", ("Public", "Private", "Self-paid")),
            Number("age", "Age", 18, 96, additive=False),
            Number("weight", "Weight (kg)", 42, 131, 1, additive=False),
            Number("stay", "Stay (days)", 1, 45),
            Day("admission_date", "Admitted", 2019, 2024),
        ), (Link("ward_id", "Ward", "ward", "ward"),)),
        Entity("treatment", "treatments", ("Treatments",), None, (
            Category("procedure_name", "Procedure", ("X-ray", "Blood test", "Physiotherapy", "Scan", "Dialysis")),
            Day("treatment_date", "Date", 2020, 2024),
            Number("cost", "Cost ($)", 20, 4200, 2),
        ), (Link("patient_id", "Patient", "patient", "patient"),)),
    )),
    Domain("school", "course", (
        Entity("teacher", "teachers", ("Teachers",), Name("name", "Teacher", _PERSON), (
            Category("degree", "Degree", ("BA", "MA", "PhD", "BSc")),
            Number("experience", "Experience (years)", 1, 38),
            Number("salary", "Salary", 24_000, 96_000),
        )),
        Entity("course", "courses", ("Courses", "Course Catalogue", "course_list"),
            Name("title", "Course", ("{level} {subject}",), {
                "level": ("Introductory", "Advanced", "Applied", "Modern", "Practical", "Honours"),
                "subject": ("Algebra", "Botany", "Chemistry", "Drama", "Economics", "French", "Geology", "History",
                            "Latin", "Logic", "Music", "Physics", "Statistics"),
            }), (
            Category("faculty", "Faculty", ("Arts", "Science", "Letters", "Economics and Law")),
            Category("term", "Term", ("Autumn", "Spring", "Summer")),
            Number("credits", "Credits", 2, 12),
            Number("students", "Students enrolled", 6, 240),
            Number("fee", "Fee (EUR)", 80, 1900),
            Number("room", "Room no", 4, 330, additive=False, code=True),
        ), (Link("teacher_id", "Teacher", "teacher", "teacher"),)),
        Entity("exam", "exams", ("Exams",), None, (
            Day("exam_date", "Date", 2021, 2024),
            Number("participants", "Sat", 4, 230),
            Number("passes", "Passed", 1, 180),
            Number("mean_mark", "Mean mark", 3, 10, 2, additive=False),
        ), (Link("course_id", "Course", "course", "course"),)),
    )),
    Domain("property", "property", (
        Entity("agent", "agents", ("Agents",), Name("name", "Agent", _PERSON), (
            Category("agency", "Agency", ("Doorway", "Hearth & Co", "Keystone", "Lettings One")),
            Number("commission", "Commission (%)", 1, 6, 1, additive=False),
        )),
        Entity("property", "properties", ("Property Listings", "Homes for Sale", "listings"),
            Name("address", "Address", ("{street} {number}",), {"number": tuple(str(n) for n in range(2, 99))}), (
            Category("kind", "Type", ("Flat", "House", "Studio flat", "Bungalow", "Loft")),
            Category("town", "Town", "city"),
            Number("rooms", "Rooms", 1, 9),
            Number("area", "Area (m2)", 22, 340, 1),
            Number("price", "Asking price ($)", 45_000, 990_000),
            Number("construction_year", "Built", 1890, 2022, additive=False),
        ), (Link("agent_id", "Agent", "agent", "agent"),)),
        Entity("viewing", "viewings", ("Viewings",), None, (
            Day("viewing_date", "Date", 2022, 2024),
            Category("visitor", "Visitor", "last"),
            Number("offer", "Offer ($)", 40_000, 980_000),
            Number("minutes", "Minutes", 10, 95),
        ), (Link("property_id", "Property", "property", "property"),)),
    )),
    Domain("cars", "car", (
        Entity("dealer", "dealers", ("Dealers",), Name("name", "Dealer", ("{last} Motors", "{city} Autos")), (
            Category("region", "Region", ("North", "South", "East", "West")),
            Number("showrooms", "Showrooms", 1, 14),
        )),
        Entity("car", "cars", ("Used Cars", "Cars in Stock", "car_inventory"),
            Name("plate", "Reg. plate", ("{a}{a}-{n}",), {
                "a": tuple("BCDFGHJKLMNPRSTVWX"), "n": tuple(str(n) for n in range(102, 990, 7)),
            }), (
            Category("make", "Make", ("Altus", "Boreal", "Corvo", "Dynamo", "Estrela")),
            Category("fuel", "Fuel", ("Petrol", "Diesel", "Electric", "Hybrid")),
            Number("year", "Model year", 2005, 2024, additive=False),
            Number("mileage", "Mileage (km)", 800, 240_000),
            Number("price", "Price ($)", 1_900, 68_000),
            Number("engine", "Engine (l)", 1, 5, 1, additive=False),
        ), (Link("dealer_id", "Dealer", "dealer", "dealer"),)),
        Entity("repair", "repairs", ("Repairs",), None, (
            Category("part", "Part", ("Brakes", "Clutch", "Battery", "Exhaust", "Tyres")),
            Day("repair_date", "Date", 2020, 2024),
            Number("cost", "Cost ($)", 30, 2400, 2),
            Number("hours", "Hours", 1, 16),
        ), (Link("car_id", "Car", "car", "car"),)),
    )),
    Domain("restaurants", "dish", (
        Entity("restaurant", "restaurants", ("Restaurants",),
            Name("name", "Restaurant", ("{first}'s", "The {noun}", "Casa {last}")), (
            Category("city", "City", "city"),
            Number("seats", "Seats", 14, 180),
        )),
        Entity("dish", "dishes", ("Menu", "Dishes", "menu_items"),
            Name("name", "Dish", ("{way} {food}", "{food} {style}"), {
                "way": ("Grilled", "Roast", "Smoked", "Spicy", "Stuffed", "Braised", "Fried"),
                "food": ("Aubergine", "Chicken", "Duck", "Lamb", "Mackerel", "Mushroom", "Pork", "Prawn", "Squash"),
                "style": ("Curry", "Pie", "Soup", "Salad", "Risotto", "Stew"),
            }), (
            Category("course", "Course", ("Starter", "Main", "Side", "Dessert")),
            Category("diet", "Diet", ("Vegan", "Vegetarian", "Any")),
            Number("price", "Price (EUR)", 3, 48, 2),
            Number("calories", "Calories (kcal)", 90, 1350),
            Number("minutes", "Time (min)", 5, 90),
            Number("units_sold", "Sold last month", 3, 940),
        ), (Link("restaurant_id", "Restaurant", "restaurant", "restaurant"),)),
    )),
)  # fmt: skip
