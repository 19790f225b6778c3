/* An extension module with the leaks that extension modules have: each function makes one, once a call, and has a
   mended twin, called with give_back true. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>

static PyObject *
keep(PyObject *module, PyObject *args)
{
    PyObject *thing;
    int give_back;
    if (!PyArg_ParseTuple(args, "Op", &thing, &give_back))
        return NULL;
    Py_INCREF(thing);
    if (give_back)
        Py_DECREF(thing);
    Py_RETURN_NONE;
}

/* The same, but only on its way out of an error. */
static PyObject *
keep_on_error(PyObject *module, PyObject *args)
{
    PyObject *thing;
    int fails;
    if (!PyArg_ParseTuple(args, "Op", &thing, &fails))
        return NULL;
    Py_INCREF(thing);
    if (fails) {
        PyErr_SetString(PyExc_ValueError, "not an item of the reply");
        return NULL;
    }
    Py_DECREF(thing);
    Py_RETURN_NONE;
}

static PyObject *
give_away(PyObject *module, PyObject *args)
{
    PyObject *thing;
    int own;
    if (!PyArg_ParseTuple(args, "Op", &thing, &own))
        return NULL;
    if (own)
        Py_INCREF(thing);
    Py_DECREF(thing);
    Py_RETURN_NONE;
}

static PyObject *
made(const char *kind, long number)
{
    char text[64];
    snprintf(text, sizeof text, "item %ld of the reply", number);
    if (!strcmp(kind, "str"))
        return PyUnicode_FromString(text);
    if (!strcmp(kind, "bytes"))
        return PyBytes_FromString(text);
    if (!strcmp(kind, "int"))
        return PyLong_FromLongLong(1000000000000LL + number);
    if (!strcmp(kind, "float"))
        return PyFloat_FromDouble(number + 0.5);
    if (!strcmp(kind, "tuple"))
        return Py_BuildValue("(L)", 1000000000000LL + number);
    if (!strcmp(kind, "dict"))
        return Py_BuildValue("{s:L}", text, 1000000000000LL + number);
    return Py_BuildValue("[l]", number);
}

static PyObject *
make(PyObject *module, PyObject *args)
{
    const char *kind;
    long number;
    int give_back;
    if (!PyArg_ParseTuple(args, "slp", &kind, &number, &give_back))
        return NULL;
    if (!strcmp(kind, "pymem")) {
        void *volatile block = PyMem_Calloc(1, 40);
        if (give_back)
            PyMem_Free(block);
    }
    else if (!strcmp(kind, "malloc")) {
        void *volatile block = calloc(1, 3000);
        if (give_back)
            free(block);
    }
    else {
        PyObject *thing = made(kind, number);
        if (thing == NULL)
            return NULL;
        if (give_back)
            Py_DECREF(thing);
    }
    Py_RETURN_NONE;
}

/* A type made at run time, whose deallocator forgets what its instances owe it. */
typedef struct {
    PyObject_HEAD
} Ghost;

static void
ghost_dealloc(PyObject *self)
{
    ((freefunc)PyType_GetSlot(Py_TYPE(self), Py_tp_free))(self);
}

static PyType_Slot ghost_slots[] = {{Py_tp_dealloc, ghost_dealloc}, {0, NULL}};
static PyType_Spec ghost_spec = {
    "lossy.Ghost", sizeof(Ghost), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, ghost_slots,
};

/* Another one, which gives it back. */
static void
point_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyType_Slot point_slots[] = {{Py_tp_dealloc, point_dealloc}, {0, NULL}};
static PyType_Spec point_spec = {"lossy.Point", sizeof(Ghost), 0, Py_TPFLAGS_DEFAULT, point_slots};

static int
execute(PyObject *module)
{
    PyObject *ghost = PyType_FromSpec(&ghost_spec), *point = PyType_FromSpec(&point_spec);
    if (ghost == NULL || point == NULL || PyModule_AddObject(module, "Ghost", ghost) < 0)
        return -1;
    return PyModule_AddObject(module, "Point", point);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyMethodDef methods[] = {
    {"keep", keep, METH_VARARGS, "Keep a reference, as a function that forgets to give it back."},
    {"keep_on_error", keep_on_error, METH_VARARGS, "Keep a reference where it fails."},
    {"give_away", give_away, METH_VARARGS, "Give a reference away that was not owned."},
    {"make", make, METH_VARARGS, "Make something, and forget it."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "lossy", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit_lossy(void)
{
    return PyModuleDef_Init(&definition);
}
